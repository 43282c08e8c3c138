"""InfoNCE with detected false negatives eliminated or attracted.

MoCo's negatives are the queue, SimCLR's the other images of the batch. Sources: InfoNCE (van den
Oord et al. 2018, arXiv 1807.03748), elimination and attraction as in IFND (Chen et al., ICLR 2022,
arXiv 2106.03719).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, Treatment, info_nce, row_counts


class ContrastiveLoss(NamedTuple):
    """The loss of a batch.

    Attributes:
        per_anchor: float32 [B], the loss in nats, averaged over the L levels.
        masked_share: float32 [], share of the valid negatives that are detected false negatives,
            over all anchors and levels.
    """

    per_anchor: tf.Tensor
    masked_share: tf.Tensor


class LossSettings(NamedTuple):
    """How similarities become a loss.

    Attributes:
        temperature: tau > 0, divides the similarities.
        mode: "eliminate" or "attract" the false negatives.
        rescale_negatives: multiply the kept negatives' sum by (valid count / kept count), so that
            elimination does not shrink the denominator (eliminate only).
        level_combination: "mean" of the levels' losses, or one loss of the levels' "union".
    """

    temperature: float = 0.2
    mode: str = "eliminate"
    rescale_negatives: bool = False
    level_combination: str = "mean"


@tf.function(jit_compile=True, autograph=False)
def label_info_nce(
    positive: tf.Tensor,
    logits: tf.Tensor,
    valid: tf.Tensor,
    index: tuple[tf.Tensor, tf.Tensor],
    labels: tuple[tf.Tensor, tf.Tensor],
    settings: LossSettings,
) -> ContrastiveLoss:
    """`masked_info_nce` with the false negatives told by labels, in one compiled pass.

    Args:
        positive: float32 [B].
        logits: float32 [B, M].
        valid: bool [M] or [B, M].
        index: examples of the anchors int32 [B], and of the negatives int32 [M]. With labels, a
            negative of the anchor's own example is invalid: an older key of it is the surest
            false negative, and too stale to attract.
        labels: those of the anchors int32 [L, B], and of the negatives int32 [L, M]; -1 for "not
            accepted". L = 0 is plain InfoNCE.
        settings: all but the temperature, by which the logits are divided already.
    """
    anchors = tf.where(labels[0] < 0, -2, labels[0])  # -1 never equals -1
    levels = zip(tf.unstack(anchors), tf.unstack(labels[1]), strict=True)
    same: list[Pairs] = [functools.partial(_equal, *level) for level in levels]

    def valid_pairs() -> tf.Tensor:
        return tf.logical_and(valid, ~_equal(*index) if same else tf.ones(logits.shape, tf.bool))

    if same and settings.level_combination == "union":
        same = [functools.partial(_reduced, tf.logical_or, *same)]
    return _treated(positive, logits, valid_pairs, same, settings)


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

    Both are averaged over l. Without false negatives both are plain InfoNCE. The gradient is a
    closed form, which cannot be differentiated again.

    Args:
        positive: float32 [B], similarity to the positive divided by the temperature.
        negatives: float32 [B, M], similarities to the negatives divided by the temperature.
        valid: bool, broadcastable to [B, M]; False removes an entry altogether (an empty
            slot of the queue, the anchor itself). None: all are valid.
        false_negative: bool [L, B, M], L static, or None for the plain loss.
        mode: "eliminate" or "attract".
        rescale: multiply the kept negatives' sum by (valid count / kept count), so that
            elimination does not shrink the denominator (eliminate only).

    Returns:
        A `ContrastiveLoss`.

    Raises:
        ValueError: if `mode` is unknown or ranks do not fit.
    """
    positive, negatives = map(tf.convert_to_tensor, (positive, negatives))
    tf.debugging.assert_rank(positive, 1)
    tf.debugging.assert_rank(negatives, 2)
    pairs = tf.broadcast_to(True if valid is None else valid, tf.shape(negatives))
    levels: list[Pairs] = []
    if false_negative is not None:
        tf.debugging.assert_rank(false_negative, 3)
        levels = [functools.partial(tf.identity, mask) for mask in tf.unstack(false_negative)]
    settings = LossSettings(mode=mode, rescale_negatives=rescale)
    return _treated(positive, negatives, lambda: pairs, levels, settings)


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


def _treated(
    positive: tf.Tensor, logits: tf.Tensor, valid: Pairs, same: list[Pairs], settings: LossSettings
) -> ContrastiveLoss:
    """The loss of valid pairs, of which the `same` of each level are false negatives."""
    mode = settings.mode
    if mode not in ("eliminate", "attract"):
        raise ValueError(f"mode: expected 'eliminate' or 'attract'. Received: {mode!r}")
    treatment, share = Treatment(), tf.zeros([])
    if same and (mode == "attract" or settings.rescale_negatives):
        found = [functools.partial(_reduced, tf.logical_and, pairs, valid) for pairs in same]
        counts = row_counts([valid, *found])
        count, masked = counts[0], counts[1:]
        share = tf.reduce_mean(masked) / tf.maximum(tf.reduce_mean(count), 1.0)
        if mode == "attract":
            treatment = _attraction(found, masked)
        else:
            treatment = _elimination(same, count / tf.maximum(count - masked, 1.0))
    elif same:
        treatment, share = _elimination(same), _masked_share(valid(), same)
    return ContrastiveLoss(info_nce(positive, logits, valid, treatment), share)


def _equal(anchors: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    return anchors[:, None] == negatives[None, :]


def _reduced(operation: Callable, *pairs: Pairs) -> tf.Tensor:
    return functools.reduce(operation, [each() for each in pairs])


def _elimination(same: list[Pairs], scale: tf.Tensor | float = 1.0) -> Treatment:
    """Weight 0 for the false negatives of a level."""

    def kept(pairs: Pairs, x: tf.Tensor) -> tf.Tensor:
        # A selection, not a product: a masked key then has exactly no gradient.
        return tf.where(pairs(), 0.0, x)

    return Treatment([functools.partial(kept, pairs) for pairs in same], scale)


def _attraction(found: Sequence[Pairs], masked: tf.Tensor) -> Treatment:
    """Target 1 / |P| for the key and the false negatives of a level, averaged over levels."""
    shares = 1.0 / (len(found) * (1.0 + masked))

    def targets(x: tf.Tensor) -> tf.Tensor:
        levels = zip(found, tf.unstack(shares[:, :, None], len(found)), strict=True)
        return tf.add_n([tf.where(pairs(), share * x, 0.0) for pairs, share in levels])

    return Treatment(key_target=tf.reduce_sum(shares, axis=0), targets=targets)


def _masked_share(valid: tf.Tensor, same: list[Pairs]) -> tf.Tensor:
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
