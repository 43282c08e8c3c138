"""Who decides which examples show the same thing. A detector is one class in one file here.

`--detector` takes the file's name, and any file in this folder will do.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.detection.embedding_clusters import TableClusters
from ifnd_tf.detection.embeddings import Sample
from ifnd_tf.errors import UserError, did_you_mean


class Detection(NamedTuple):
    """One refresh.

    Attributes:
        labels: int32 [L, N], -1 where not accepted.
        confidence: float32 [L, N] in [0, 1].
        statistics: what there is to say about the clusters, name to number.
        sample: some of the embeddings that the labels come from; None if from none.
    """

    labels: np.ndarray
    confidence: np.ndarray
    statistics: dict[str, Any]
    sample: Sample | None = None


class Parts(NamedTuple):
    """What a run hands to its detector.

    Attributes:
        true_labels: int32 [N], -1 for unknown.
        clusters: makes what clusters the examples' embeddings.
        num_clusters: K of each level, ascending; empty for a detector that does not cluster.
        hierarchy: "independent", or "nested": coarser levels cluster the finer centroids.
        scope: "global" or "cluster"; see `pseudo_labels.accept`.
        seed: of what the detector draws.
    """

    true_labels: np.ndarray
    clusters: Callable[[], TableClusters]
    num_clusters: Sequence[int] = ()
    hierarchy: str = "independent"
    scope: str = "global"
    seed: int = 0


class Detector(tf.Module):
    """Base of all detectors. Their variables are part of the checkpoint.

    `IncrementalDetection`, the callback, asks for labels at every refresh and writes them to
    the model.

    Attributes:
        clusters: whether it clusters embeddings, in as many levels as `--num_clusters` has.
        num_levels: L. 0 means that there is nothing to detect: plain MoCo v2 or SimCLR.
        incremental: whether labels come after a warm-up and grow; otherwise they are given
            once, before the first step.
    """

    clusters: ClassVar[bool] = False
    num_levels: int = 0
    incremental: ClassVar[bool] = True

    def __init__(self, parts: Parts):
        super().__init__(name="detector")

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        """Finds labels.

        Args:
            rate: acceptance rate r in [0, 1].
            phase: context manager that names what is being done, for the terminal.
        """
        raise NotImplementedError


def names() -> list[str]:
    """What `--detector` may be: the names of the files here."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def named(name: str) -> type[Detector]:
    """The detector of `--detector`.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in names():
        raise UserError(
            f"--detector: expected one of {', '.join(names())}. Received: {name!r}."
            f"{did_you_mean(name, names())}"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    (kind,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Detector)
        and value.__module__ == module.__name__
    )
    return kind
