"""The encoder of `--mode=embed`: the run's own, another's, or a file of embeddings."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data import embedding_file
from ifnd_tf.data.datasets import Splits
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.stages import build, given_rows, initial_weights
from ifnd_tf.stages.run import Run

# Sides of the views, in pixels: for a SavedModel that takes images of any size, and for images with
# given rows, which are only shown.
_ANY_SIZE, _LOOKED_AT = 224, 64


class EmbedEncoder(NamedTuple):
    """How images get their features.

    Attributes:
        outputs: uint8 images `[b, S, S, 3]` -> "features" float32 `[b, F]` and, if the encoder
            makes one, "embedding" `[b, D]` of unit length; nothing if rows are given.
        image_size: S.
        rows: of all images of both parts of the data, if they are given; else None.
        source: the flag that names an encoder of others, and its value, for messages.
    """

    outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    image_size: int
    rows: np.ndarray | None = None
    source: str = ""


def choose(run: Run, splits: Splits) -> EmbedEncoder:
    """The encoder that the flags name.

    Raises:
        UserError: if there is no checkpoint, or what the flags name is not usable.
    """
    config = run.config
    if config.embeddings:
        return EmbedEncoder(lambda images: {}, _LOOKED_AT, _given(run, splits))
    if config.saved_model:
        model = given_rows.load_saved_model(run, "saved_model", config.saved_model)
        size = model.image_size or max(_ANY_SIZE, config.image_size)
        return EmbedEncoder(model, size, source=f"--saved_model={config.saved_model}")
    if without_run(run):
        source = f"--init_from={config.init_from}"
        return EmbedEncoder(_starting(run), config.image_size, source=source)
    return EmbedEncoder(run.trained_model().network.inference, config.image_size)


def without_run(run: Run) -> bool:
    """Whether the images are embedded by an encoder that this directory's run has not trained."""
    config = run.config
    if config.saved_model or config.embeddings:
        return True
    checkpoints = CheckpointStore(run.directory.file("checkpoints")).steps()
    return bool(config.init_from) and not checkpoints


def _starting(run: Run) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The features of the encoder of `--init_from`, whose projector may be missing."""
    start = initial_weights.starter(run.config, run.progress.line)
    assert start is not None
    with run.strategy.scope():
        network = build.network(run.config)
        start(network)
    return lambda images: {"features": network.features(images)}


def _given(run: Run, splits: Splits) -> np.ndarray:
    """The rows of `--embeddings`, float32 `[N, D]`; zeros where an image has none."""
    path = run.config.embeddings
    parts = [source for source in splits if source is not None]
    names = [source.describe(i) for source in parts for i in range(source.num_examples)]
    starts = np.cumsum([0, *(source.num_examples for source in parts)])
    readable = [s.readable + start for s, start in zip(parts, starts, strict=False)]
    with run.progress.phase(f"reading {path}"):
        rows = embedding_file.read(
            "embeddings", path, names, np.concatenate(readable),
            sizes=lambda: np.concatenate([source.sizes for source in parts]),
        )  # fmt: skip
    run.note_rows(rows.notes)
    return rows.points
