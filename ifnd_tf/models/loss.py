"""Contrastive losses that leave detected false negatives out, or pull them in.

Both base frameworks use the same function: MoCo's negatives are the queue, SimCLR's the
other images of the batch. Sources: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748),
elimination and attraction as in IFND (Chen et al., ICLR 2022, arXiv 2106.03719).
"""

from typing import NamedTuple

import tensorflow as tf


class ContrastiveLoss(NamedTuple):
    """What `masked_info_nce` returns.

    Attributes:
        per_anchor: float32 [B], the loss in nats, averaged over the L levels.
        masked_share: float32 [], share of the valid negatives taken for false ones, over
            all anchors and levels.
    """

    per_anchor: tf.Tensor
    masked_share: tf.Tensor


def false_negatives(anchor_labels: tf.Tensor, negative_labels: tf.Tensor) -> tf.Tensor:
    """Which negatives carry the anchor's pseudo-label, level by level.

    Args:
        anchor_labels: int32 [L, B], -1 for "not accepted".
        negative_labels: int32 [L, M], likewise.

    Returns:
        bool [L, B, M]; -1 never equals -1.
    """
    tf.debugging.assert_rank(anchor_labels, 2)
    tf.debugging.assert_rank(negative_labels, 2)
    # Any value that no label has will do: one comparison then serves both conditions.
    anchors = tf.where(anchor_labels < 0, -2, anchor_labels)
    return anchors[:, :, None] == negative_labels[:, None, :]


def masked_info_nce(
    positive: tf.Tensor,
    negatives: tf.Tensor,
    *,
    valid: tf.Tensor | None = None,
    false_negative: tf.Tensor | None = None,
    mode: str = "eliminate",
    rescale: bool = False,
) -> ContrastiveLoss:
    """InfoNCE over L levels of detected false negatives, with one exponential for all.

    With p the positive's logit, n the negatives' and F_l the false negatives of level l:

    - eliminate: `-p + log(e^p + sum over n not in F_l of e^n)`;
    - attract: `log(e^p + sum of all e^n) - mean(p and the logits in F_l)`.

    Both are averaged over l. Without false negatives both are plain InfoNCE.

    Args:
        positive: float32 [B], similarity to the positive divided by the temperature.
        negatives: float32 [B, M], similarities to the negatives divided by the temperature.
        valid: bool, broadcastable to [B, M]; False removes an entry altogether (an empty
            slot of the queue, the anchor itself). None: all are valid.
        false_negative: bool [L, B, M], or None for the plain loss.
        mode: "eliminate" or "attract".
        rescale: multiply the kept negatives' sum by (valid count / kept count), so that
            elimination does not shrink the denominator (eliminate only).

    Returns:
        A `ContrastiveLoss`.

    Raises:
        ValueError: if `mode` is unknown or ranks do not fit.
    """
    if mode not in ("eliminate", "attract"):
        raise ValueError(f"mode: expected 'eliminate' or 'attract'. Received: {mode!r}")
    tf.debugging.assert_rank(positive, 1)
    tf.debugging.assert_rank(negatives, 2)
    if valid is not None:
        valid = tf.convert_to_tensor(valid)
        # Not a product with 0: e^0 = 1 would stay in the sum.
        negatives = tf.where(valid, negatives, tf.constant(float("-inf"), negatives.dtype))
    largest = tf.stop_gradient(tf.maximum(positive, tf.reduce_max(negatives, axis=1)))
    exp_positive = tf.exp(positive - largest)
    exp_negatives = tf.exp(negatives - largest[:, None])
    if false_negative is None:
        total = exp_positive + tf.reduce_sum(exp_negatives, axis=1)
        return ContrastiveLoss(tf.math.log(total) + largest - positive, tf.zeros([]))

    tf.debugging.assert_rank(false_negative, 3)
    if valid is not None:
        false_negative = tf.logical_and(false_negative, valid)
    masked = tf.reduce_sum(tf.cast(false_negative, tf.float32), axis=2)  # [L, B]
    count = _valid_count(valid, negatives)
    if mode == "eliminate":
        kept = tf.reduce_sum(tf.where(false_negative, 0.0, exp_negatives), axis=2)
        if rescale:
            kept *= count / tf.maximum(count - masked, 1.0)
        per_level = tf.math.log(exp_positive + kept) + largest - positive
    else:
        total = exp_positive + tf.reduce_sum(exp_negatives, axis=1)
        # -inf logits of invalid entries must not meet the product 0 * -inf.
        pulled = tf.reduce_sum(tf.where(false_negative, negatives, 0.0), axis=2)
        per_level = tf.math.log(total) + largest - (positive + pulled) / (1.0 + masked)
    share = tf.reduce_mean(masked) / tf.maximum(tf.reduce_mean(count), 1.0)
    return ContrastiveLoss(tf.reduce_mean(per_level, axis=0), share)


def _valid_count(valid: tf.Tensor | None, negatives: tf.Tensor) -> tf.Tensor:
    """float32 [B] or [1]: how many negatives are valid."""
    if valid is None:
        return tf.cast(tf.shape(negatives)[1:], tf.float32)
    rows = tf.cast(valid, tf.float32)
    return tf.reduce_sum(rows, axis=-1) if valid.shape.rank == 2 else tf.reduce_sum(rows)[None]
