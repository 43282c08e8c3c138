"""The share of negatives that a treatment masks; precision and recall of the pairs it detects."""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, Treatment, row_sums
from ifnd_tf.models.rule import Batch

_MEASURES = ("treatment_precision", "treatment_recall", "treatment_f1")


def masked_share(valid: tf.Tensor, same: Sequence[Pairs]) -> tf.Tensor:
    """Share of the valid pairs [B, M] that are false negatives, over the levels.

    One integer per column counts both, the valid pairs in its upper half: two sums would take
    twice the time.
    """
    levels, batch = len(same), valid.shape[0] or 1 << 16
    kind, half = (tf.int32, 1 << 16) if levels * batch < 1 << 15 else (tf.int64, 1 << 32)
    masked = tf.add_n([tf.cast(pairs(), kind) for pairs in same])
    both = tf.reduce_sum(tf.where(valid, masked + half, 0), axis=0)
    count = tf.reduce_sum(tf.cast(both // half, tf.float32))
    most = levels * tf.maximum(count, tf.cast(tf.shape(valid)[0], tf.float32))
    return tf.reduce_sum(tf.cast(both % half, tf.float32)) / most


def lacking_share(valid: tf.Tensor, treatment: Treatment) -> tf.Tensor:
    """The mean of (1 - weight) over the valid pairs [B, M]."""
    counted = tf.cast(valid, tf.float32)
    lacking = tf.reduce_sum(row_sums(_lacking(treatment, counted)))
    return tf.math.divide_no_nan(lacking, tf.reduce_sum(row_sums(counted)))


def detected_sums(
    treatment: Treatment, batch: Batch, truth: tuple[tf.Tensor, tf.Tensor], kind: str
) -> tf.Tensor:
    """Sums over the valid pairs of known classes, float32 [3].

    sum d, sum d s and sum s, where s = 1 if a pair's classes agree, else 0, and d is, by `kind`,
    the share of the levels that mask or attract the pair, (1 - weight), or its target. Precision is
    the second over the first, recall the second over the third.
    """
    known = tf.logical_and(truth[0][:, None] >= 0, truth[1][None, :] >= 0)
    counted = tf.cast(tf.logical_and(known, batch.valid()), tf.float32)
    if kind == "target":
        found = treatment.targets(counted)  # type: ignore[misc]
    elif kind == "weights":
        found = _lacking(treatment, counted)
    else:
        means = [
            tf.add_n([tf.where(pairs(), counted, 0.0) for pairs in levels]) / len(levels)
            for levels in (treatment.masked, treatment.attracted)
            if levels
        ]
        found = functools.reduce(tf.maximum, means)
    same = truth[0][:, None] == truth[1][None, :]
    sums = (found, tf.where(same, found, 0.0), tf.where(same, counted, 0.0))
    return tf.stack([tf.reduce_sum(row_sums(each)) for each in sums])


def means(kind: str) -> dict[str, keras.metrics.Mean]:
    """The epoch's precision, recall and F1; of a soft target, precision alone."""
    names = {"": (), "target": _MEASURES[:1]}.get(kind, _MEASURES)
    return {name: keras.metrics.Mean(name=name) for name in names}


def update(measures: dict[str, keras.metrics.Mean], sums: tf.Tensor) -> None:
    """Adds a batch's `detected_sums`, as ratios of the epoch's sums."""
    found, right, relevant = tf.unstack(sums, 3)
    ratios = ((right, found), (right, relevant), (2.0 * right, found + relevant))
    for metric, (part, whole) in zip(measures.values(), ratios, strict=False):
        metric.update_state(tf.math.divide_no_nan(part, whole), sample_weight=whole)


def unknown(measures: dict[str, keras.metrics.Mean]) -> set[str]:
    """The measures of no pair: without known classes all, and precision while none is detected."""
    return {name for name, metric in measures.items() if not metric.count.numpy()}


def _lacking(treatment: Treatment, counted: tf.Tensor) -> tf.Tensor:
    """The mean over the weightings of (1 - weight), times `counted` [B, M]."""
    lacking = [tf.nn.relu(counted - weigh(counted)) for weigh in treatment.weights]
    return tf.add_n(lacking) / len(lacking)
