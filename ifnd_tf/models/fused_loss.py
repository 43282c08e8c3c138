"""Elimination in one compiled pass: what `loss.masked_info_nce` gives, without its L masks.

On a CPU the masks [L, B, M] and what they select cost more than the rest of the loss. Here they
are compared from the labels where they are needed, in the loss and again in its gradient, and XLA
keeps them in registers.
"""

import math
from typing import Any

import tensorflow as tf

from ifnd_tf.distribute.replicas import on_cpu
from ifnd_tf.models.loss import ContrastiveLoss

# Numbers that a CPU adds side by side: a few registers full.
_LANES = 128


@tf.custom_gradient
def _per_anchor(
    positive: tf.Tensor, logits: tf.Tensor, anchors: tf.Tensor, negatives: tf.Tensor
) -> tuple[tf.Tensor, Any]:
    """Loss float32 [B] of logits [B, M], -inf where invalid, and labels [L, B] and [L, M]."""
    levels = list(zip(tf.unstack(anchors), tf.unstack(negatives), strict=True))
    largest = tf.maximum(positive, tf.reduce_max(logits, axis=1))
    exp_positive = tf.exp(positive - largest)
    exp_logits = tf.exp(logits - largest[:, None])
    kept = [_row_sums(tf.where(_same(*level), 0.0, exp_logits)) for level in levels]
    totals = exp_positive + tf.stack(kept)

    def gradient(upstream: tf.Tensor) -> tuple:
        # d loss / d logit = mean over the levels that keep it of exp(logit) / total.
        weights = upstream / (len(levels) * totals)
        share = tf.add_n(
            [
                tf.where(_same(*level), 0.0, weight[:, None])
                for level, weight in zip(levels, tf.unstack(weights), strict=True)
            ]
        )
        to_positive = exp_positive * tf.reduce_sum(weights, axis=0) - upstream
        return to_positive, exp_logits * share, None, None

    return tf.reduce_mean(tf.math.log(totals), axis=0) + largest - positive, gradient


def _row_sums(values: tf.Tensor) -> tf.Tensor:
    """Sums [B] of the rows of [B, M].

    On a CPU XLA adds the numbers of a row one after the other, as their order says, in twice the
    time of all else here. So they are added in lanes first, and the lanes by a product: XLA would
    join two sums into one.
    """
    lanes = math.gcd(values.shape[1], _LANES)
    if lanes == 1 or not on_cpu():
        return tf.reduce_sum(values, axis=1)
    partial = tf.reduce_sum(tf.reshape(values, [values.shape[0], -1, lanes]), axis=1)
    return tf.linalg.matvec(partial, tf.ones([lanes]))


def _masked_share(valid: tf.Tensor, anchors: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    """Share of the valid pairs [B, M] that are masked, over the levels.

    One integer counts both for a column, the valid ones in its upper half: two sums would take
    twice the time.
    """
    levels, batch = anchors.shape
    kind, half = (tf.int32, 1 << 16) if levels * batch < 1 << 15 else (tf.int64, 1 << 32)
    pairs = zip(tf.unstack(anchors), tf.unstack(negatives), strict=True)
    masked = tf.add_n([tf.cast(_same(*pair), kind) for pair in pairs])
    both = tf.reduce_sum(tf.where(valid, masked + half, 0), axis=0)
    count = tf.reduce_sum(tf.cast(both // half, tf.float32))
    return tf.reduce_sum(tf.cast(both % half, tf.float32)) / (levels * tf.maximum(count, batch))


def _same(anchors: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    return anchors[:, None] == negatives[None, :]


@tf.function(jit_compile=True, autograph=False)
def eliminate(
    positive: tf.Tensor,
    logits: tf.Tensor,
    valid: tf.Tensor,
    anchor_index: tf.Tensor,
    negative_index: tf.Tensor,
    anchor_labels: tf.Tensor,
    negative_labels: tf.Tensor,
) -> ContrastiveLoss:
    """`masked_info_nce` with mode "eliminate", from labels.

    Args:
        positive: float32 [B].
        logits: float32 [B, M].
        valid: bool [M] or [B, M]; a negative of the anchor's own example never is.
        anchor_index: int32 [B], the anchors' examples.
        negative_index: int32 [M].
        anchor_labels: int32 [L, B], -1 for "not accepted".
        negative_labels: int32 [L, M], likewise.
    """
    valid = tf.logical_and(valid, anchor_index[:, None] != negative_index[None, :])
    anchors = tf.where(anchor_labels < 0, -2, anchor_labels)  # -1 never equals -1
    logits = tf.where(valid, logits, float("-inf"))
    per_anchor = _per_anchor(positive, logits, anchors, negative_labels)
    return ContrastiveLoss(per_anchor, _masked_share(valid, anchors, negative_labels))
