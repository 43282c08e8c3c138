"""InfoNCE of weighted negatives and soft targets, with its gradient in closed form.

One formula covers every treatment of false negatives. With p the positive's logit, n_j the
negatives', weights w_j, targets t_j with t_0 + sum_j t_j = 1, a scale lambda, the positive's
share c and a floor f,

    loss = mean over weightings of log Z - t_0 p - sum_j t_j n_j,
    Z = [key in the sum] e^p + max(lambda sum_j w_j e^n_j - c e^p, f),

and its gradient is the softmax weight less the target: lambda w_j e^n_j / Z - t_j, and -t_j alone
where the floor f is the maximum. c and f are left out where no treatment uses them.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.distribute.replicas import on_cpu

# Partial sums that a CPU adds side by side: a few vector registers full.
_LANES = 128
# e^80 is finite in float32; e^89 is not.
_LARGEST_EXPONENT = 80.0

# A mask, bool [B, M]. Computed anew by each call: in a loop that XLA has fused, comparing labels
# costs less than reading a stored mask.
Pairs = Callable[[], tf.Tensor]
# Multiplies values [B, M] or [B, 1] by each pair's weight or target: [B, M].
Factor = Callable[[tf.Tensor], tf.Tensor]
# The gradient of the sum of w_j e^n_j by the logits, float32 [B, M], from e^n [B, M] and that sum
# [B, 1].
Slopes = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Treatment(NamedTuple):
    """The weights and targets of all pairs; by default those of plain InfoNCE. Without gradient.

    Attributes:
        weights: a `Factor` for each weighting, w >= 0.
        scale: float32 [weightings, B] or [B], lambda.
        rescale: whether lambda is multiplied by (candidates / candidates not masked), for each
            weighting.
        key_target: float32 [B], t_0.
        targets: the `Factor` of t_j; None: all are 0.
        positive_share: float32 [B], c; None: 0, without a floor.
        log_floor: float32 [B], log f; with a positive share only.
        key_in_sum: whether e^p is part of Z. An anchor without candidates always keeps it, so that
            its loss is 0.
        slopes: `Slopes` for each weighting, if its weights depend on the logits and the gradient
            flows through them; empty: w_j e^n_j.
        masked: the pairs of weight 0 of each weighting; empty: none.
        attracted: the pairs that share a target equally, of each level; empty: none.
    """

    weights: Sequence[Factor] = (tf.identity,)
    scale: tf.Tensor | float = 1.0
    rescale: bool = False
    key_target: tf.Tensor | float = 1.0
    targets: Factor | None = None
    positive_share: tf.Tensor | None = None
    log_floor: tf.Tensor | None = None
    key_in_sum: bool = True
    slopes: Sequence[Slopes] = ()
    masked: Sequence[Pairs] = ()
    attracted: Sequence[Pairs] = ()


def info_nce(
    positive: tf.Tensor, logits: tf.Tensor, valid: Pairs, treatment: Treatment
) -> tf.Tensor:
    """The module's formula, float32 [B]; invalid pairs have weight and target 0."""
    weights, key_target, targets = treatment.weights, treatment.key_target, treatment.targets
    if treatment.rescale and treatment.masked:
        treatment = _rescaled(treatment, valid)

    @tf.custom_gradient
    def per_anchor(positive: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, Any]:
        # Not a product with 0: e^0 = 1 would stay in the sum.
        logits = tf.where(valid(), logits, float("-inf"))
        largest = tf.reduce_max(logits, axis=1)
        if treatment.key_in_sum or treatment.positive_share is not None:
            largest = tf.maximum(positive, largest)
        else:  # a much nearer key would leave no number of the negatives above 0
            largest = tf.where(tf.math.is_finite(largest), largest, positive)
        exp_positive = tf.exp(tf.minimum(positive - largest, _LARGEST_EXPONENT))
        exp_logits = tf.exp(logits - largest[:, None])
        sums = tf.stack([row_sums(weigh(exp_logits)) for weigh in weights])
        totals, by_sum, by_key = _normaliser(treatment, exp_positive, sums, largest)
        loss = tf.reduce_mean(tf.math.log(totals), axis=0) + largest - key_target * positive
        if targets is not None:
            loss -= row_sums(targets(logits))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            shares = upstream / (len(weights) * totals)
            columns = tf.unstack((by_sum * shares)[:, :, None], len(weights))
            if treatment.slopes:
                each = zip(treatment.slopes, tf.unstack(sums, len(weights)), columns, strict=True)
                to_logits = tf.add_n([s(exp_logits, x[:, None]) * column for s, x, column in each])
            else:
                weighed = tf.add_n([w(x) for w, x in zip(weights, columns, strict=True)])
                to_logits = exp_logits * weighed
            if targets is not None:
                to_logits -= targets(upstream[:, None])
            keys = tf.reduce_sum(shares if by_key is None else by_key * shares, axis=0)
            return exp_positive * keys - key_target * upstream, to_logits

        return loss, gradient

    return per_anchor(positive, logits)


def _rescaled(treatment: Treatment, valid: Pairs) -> Treatment:
    """The treatment with its sums over unmasked candidates scaled up to all valid ones."""

    def masked_and_valid(pairs: Pairs) -> tf.Tensor:
        return tf.logical_and(pairs(), valid())

    masks = (functools.partial(masked_and_valid, pairs) for pairs in treatment.masked)
    counts = row_counts([valid, *masks])
    count, masked = counts[0], counts[1:]
    return treatment._replace(scale=treatment.scale * count / tf.maximum(count - masked, 1.0))


def _normaliser(
    treatment: Treatment, exp_positive: tf.Tensor, sums: tf.Tensor, largest: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | float, tf.Tensor | None]:
    """Z / e^largest [weightings, B], and its derivatives by the sums and by e^p (None: 1)."""
    scale, negatives = treatment.scale, treatment.scale * sums
    share, by_key = treatment.positive_share, None
    if share is not None:
        without, floor = negatives - share * exp_positive, tf.exp(treatment.log_floor - largest)
        above = without > floor
        negatives = tf.where(above, without, floor)
        scale, by_key = tf.where(above, scale, 0.0), tf.where(above, 1.0 - share, 1.0)
    if treatment.key_in_sum:
        return exp_positive + negatives, scale, by_key
    alone = tf.equal(negatives, 0.0)  # an empty queue
    by_key = (tf.ones_like(negatives) if by_key is None else by_key) - 1.0
    return (
        tf.where(alone, exp_positive, negatives),
        scale,
        tf.where(alone, 1.0, by_key),
    )


def row_sums(values: tf.Tensor) -> tf.Tensor:
    """Sums [B] of the rows of [B, M].

    On a CPU XLA adds a row's numbers one by one, to keep their order, which takes twice as long as
    the rest of the loss. So lanes are added first, and then joined by a matrix product, since XLA
    would merge two plain sums into one.
    """
    lanes = _lanes(values)
    return tf.reduce_sum(values, axis=1) if lanes == 1 else _add(_lane_sums(values, lanes))


def row_counts(pairs: Sequence[Pairs]) -> tf.Tensor:
    """float32 [len(pairs), B]: how many pairs of each row are True.

    On a CPU several counts are taken at once, in bit fields of an integer.
    """
    masks = [each() for each in pairs]
    lanes = _lanes(masks[0])
    if lanes == 1:
        return tf.stack([row_sums(tf.cast(mask, tf.float32)) for mask in masks])
    width = (masks[0].shape[1] // lanes).bit_length()
    fields, counts = 31 // width, []
    for first in range(0, len(masks), fields):
        places = [1 << width * place for place in range(len(masks[first : first + fields]))]
        each = zip(masks[first:], places, strict=False)
        together = _lane_sums(tf.add_n([tf.where(m, place, 0) for m, place in each]), lanes)
        counts += [together // place % (1 << width) for place in places]
    return tf.stack([_add(tf.cast(count, tf.float32)) for count in counts])


def _lanes(values: tf.Tensor) -> int:
    """The number of columns of `values` [B, M] that are added side by side."""
    return math.gcd(values.shape[1] or 1, _LANES) if on_cpu() else 1


def _lane_sums(values: tf.Tensor, lanes: int) -> tf.Tensor:
    return tf.reduce_sum(tf.reshape(values, [-1, values.shape[1] // lanes, lanes]), axis=1)


def _add(lanes: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matvec(lanes, tf.ones(lanes.shape[1:]))
