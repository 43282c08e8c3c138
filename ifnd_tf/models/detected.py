"""How much a treatment detects of a batch, and how much of that is right."""

from collections.abc import Sequence

import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, Treatment, row_sums
from ifnd_tf.models.rule import Batch


def masked_share(valid: tf.Tensor, same: Sequence[Pairs]) -> tf.Tensor:
    """Share of the valid pairs [B, M] that are false negatives, over the levels.

    One integer counts both for a column, the valid ones in its upper half: two sums would take
    twice the time.
    """
    levels, batch = len(same), valid.shape[0] or 1 << 16
    kind, half = (tf.int32, 1 << 16) if levels * batch < 1 << 15 else (tf.int64, 1 << 32)
    masked = tf.add_n([tf.cast(pairs(), kind) for pairs in same])
    both = tf.reduce_sum(tf.where(valid, masked + half, 0), axis=0)
    count = tf.reduce_sum(tf.cast(both // half, tf.float32))
    most = levels * tf.maximum(count, tf.cast(tf.shape(valid)[0], tf.float32))
    return tf.reduce_sum(tf.cast(both % half, tf.float32)) / most


def detected_sums(
    treatment: Treatment, batch: Batch, truth: tuple[tf.Tensor, tf.Tensor], kind: str
) -> tf.Tensor:
    """Sums over the valid pairs of known classes, float32 [3].

    With d the share of the levels that mask or attract a pair, or its target, and same whether its
    classes agree: sum d, sum d same, sum same. So precision is the second by the first, recall the
    second by the third.
    """
    known = tf.logical_and(truth[0][:, None] >= 0, truth[1][None, :] >= 0)
    counted = tf.cast(tf.logical_and(known, batch.valid()), tf.float32)
    if kind == "target":
        found = treatment.targets(counted)  # type: ignore[misc]
    else:
        levels = treatment.masked or treatment.attracted
        found = tf.add_n([tf.where(pairs(), counted, 0.0) for pairs in levels]) / len(levels)
    same = truth[0][:, None] == truth[1][None, :]
    sums = (found, tf.where(same, found, 0.0), tf.where(same, counted, 0.0))
    return tf.stack([tf.reduce_sum(row_sums(each)) for each in sums])
