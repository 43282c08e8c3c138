"""Who decides which examples show the same thing. Adding a detector is one class here.

A detector turns an acceptance rate into pseudo-labels [L, N]; `IncrementalDetection`, the
callback, asks for them at every refresh and writes them to the model.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf import pseudo_labels
from ifnd_tf.embedding_table import Clustering, EmbeddingTable
from ifnd_tf.errors import UserError


class Detection(NamedTuple):
    """One refresh.

    Attributes:
        labels: int32 [L, N], -1 where not accepted.
        confidence: float32 [L, N] in [0, 1].
        statistics: what there is to say about the clusters, name to number.
    """

    labels: np.ndarray
    confidence: np.ndarray
    statistics: dict[str, Any]


class Detector(tf.Module):
    """Base of all detectors.

    Attributes:
        num_levels: L. 0 means that there is nothing to detect: plain MoCo v2 or SimCLR.
        incremental: whether labels come after a warm-up and grow; otherwise they are given
            once, before the first step.
    """

    num_levels: int = 0
    incremental: ClassVar[bool] = True

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        """Finds labels.

        Args:
            rate: acceptance rate r in [0, 1].
            phase: context manager that names what is being done, for the terminal.
        """
        raise NotImplementedError


class Plain(Detector):
    """`--detector=none`: no label is ever accepted, and no mask is computed."""


class Oracle(Detector):
    """`--detector=oracle`: the true labels, the ceiling of what removal can give.

    Args:
        true_labels: int32 [N], -1 for unknown.
    """

    num_levels, incremental = 1, False

    def __init__(self, true_labels: np.ndarray):
        super().__init__(name="detector")
        if np.all(true_labels < 0):
            raise UserError(
                "--detector=oracle: expected a data set with labels. Received one without; use "
                "--detector=ifnd."
            )
        self._labels = true_labels.astype(np.int32)[None]

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        return Detection(self._labels, (self._labels >= 0).astype(np.float32), {})


class Incremental(Detector):
    """`--detector=ifnd`: k-means clusters of the embeddings, the most confident first.

    Source: IFND (Chen et al., ICLR 2022), steps 1 to 4 of the method.

    Args:
        table: the devices' embeddings.
        embed: puts the embeddings of now into the table.
        num_clusters: K of each level, ascending.
        hierarchy: "independent", or "nested": coarser levels cluster the finest centroids.
        scope: "global" or "cluster"; see `pseudo_labels.accept`.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        embed: Callable[[], None],
        *,
        num_clusters: Sequence[int],
        hierarchy: str = "independent",
        scope: str = "global",
    ):
        super().__init__(name="detector")
        self.num_levels = len(num_clusters)
        self.table, self._embed = table, embed
        self._num_clusters, self._hierarchy, self._scope = num_clusters, hierarchy, scope
        # Checkpointed: a resumed run must start its next k-means where this one ended.
        with table.strategy.scope():
            self._started = tf.Variable(False, trainable=False, name="started")
            self._centroids = [
                tf.Variable(tf.zeros([k, table.width]), trainable=False, name=f"centroids_{k}")
                for k in num_clusters
            ]

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        with phase("embedding"):
            self._embed()
        with phase("clustering"):
            levels = self._nested() if self._hierarchy == "nested" else self._independent()
            for variable, level in zip(self._centroids, levels, strict=True):
                variable.assign(level.centroids)
            # Not when there was nothing to cluster: such centroids are no place to start from.
            self._started.assign(bool(levels[0].counts.any()))
        labels = np.stack([self._accept(level, rate) for level in levels])
        confidence = np.stack([level.confidence for level in levels])
        return Detection(labels, confidence, _cluster_statistics(levels))

    def _accept(self, level: Clustering, rate: float) -> np.ndarray:
        accepted = pseudo_labels.accept(
            level.confidence, level.assignments, rate=rate, scope=self._scope
        )
        return pseudo_labels.assign(level.assignments, accepted)

    def _start(self, level: int) -> tf.Tensor | None:
        return tf.convert_to_tensor(self._centroids[level]) if self._started.numpy() else None

    def _independent(self) -> list[Clustering]:
        return [
            self.table.cluster(k, self._start(level), salt=level)
            for level, k in enumerate(self._num_clusters)
        ]

    def _nested(self) -> list[Clustering]:
        finest = self.table.cluster(self._num_clusters[-1], self._start(-1))
        levels = [finest]
        for level in reversed(range(self.num_levels - 1)):
            levels.insert(0, self.table.coarsen(levels[0], self._num_clusters[level]))
        return levels


class Permuted(Incremental):
    """`--detector=random`: ifnd's labels dealt to the wrong examples; it must not help.

    The same number of negatives is masked, in clusters of the same sizes.
    """

    def __init__(self, *args, seed: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self._seed = seed

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        found = super().detect(rate, phase)
        order = np.random.default_rng(self._seed).permutation(found.labels.shape[1])
        return found._replace(labels=found.labels[:, order], confidence=found.confidence[:, order])


def _cluster_statistics(levels: Sequence[Clustering]) -> dict[str, Any]:
    counts = [level.counts for level in levels]
    return {
        "clusters": [int(c.size) for c in counts],
        "empty_clusters": int(sum(np.sum(c == 0) for c in counts)),
        "largest_cluster": [int(c.max()) for c in counts],
        "smallest_cluster": [int(c.min()) for c in counts],
        "inertia": [level.inertia for level in levels],
        "reseeded": int(sum(level.reseeded for level in levels)),
    }
