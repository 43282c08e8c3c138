"""Builds the loss's settings for a teacher's embeddings, and adds their rows to batches."""

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.host_memory import host_constant
from ifnd_tf.models.teacher import DTYPE, Teacher


def settings(config: Config, width: int) -> Teacher | None:
    """How rows of this width become targets; None for width 0, without a teacher."""
    if not width:
        return None
    return Teacher(
        width, config.teacher_weight, config.teacher_weight_schedule, config.teacher_temperature
    )


def with_rows(batches: tf.data.Dataset, rows: np.ndarray | None) -> tf.data.Dataset:
    """Adds "teacher" bfloat16 [b, W] to batches with "index" int32 [b].

    The rows of all examples stay on the host; only those of a batch travel.

    Args:
        batches: of training.
        rows: float [N, W]; None: there are none.
    """
    if rows is None:
        return batches
    table = host_constant(rows.astype(DTYPE.as_numpy_dtype))
    return batches.map(lambda batch: batch | {"teacher": tf.gather(table, batch["index"])})
