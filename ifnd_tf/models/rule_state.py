"""Writes the state that rules keep for each example, on all replicas."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from ifnd_tf.distribute import replicas


def write(
    kept: Mapping[str, keras.Variable], index: tf.Tensor, rows: Mapping[str, tf.Tensor]
) -> None:
    """Writes the rows of all replicas' anchors; in place, and XLA-compilable.

    Args:
        kept: float32 [N, ...], by name.
        index: int32 [b], the anchors' examples. Rows of one example must be equal.
        rows: float32 [b, ...], by name.
    """
    if not rows:
        return
    places = replicas.all_gather(index)
    flat = [tf.reshape(value, [index.shape[0], -1]) for value in rows.values()]
    together = replicas.all_gather(tf.concat(flat, axis=1))
    parts = tf.split(together, [value.shape[1] for value in flat], axis=1)
    for (name, value), part in zip(rows.items(), parts, strict=True):
        updates = tf.reshape(part, [-1, *value.shape[1:]])
        # Assigning a changed copy would move all N rows; see `MemoryBank.update`.
        handle = kept[name].value.handle
        tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=places, updates=updates)
