"""A rule of `--treatment`: from a batch and the treatment so far to the next treatment.

Rules compose: each changes some of a `Treatment`'s parts and leaves the others.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import tensorflow as tf

from ifnd_tf.models.info_nce import Factor, Pairs, Treatment, row_counts, row_sums


class Batch(NamedTuple):
    """What a rule may look at, B anchors and M candidates. Without gradient.

    Attributes:
        positive: float32 [B], the student's similarities to the keys, divided by tau.
        logits: float32 [B, M], to the candidates, likewise.
        valid: which candidates count.
        same: for each level, the valid or invalid pairs whose labels agree; empty without labels.
        examples: indices of the anchors int32 [B], and of the candidates int32 [M].
        temperature: tau.
        state: the anchors' rows of each `Rule.state`, float32 [B].
        teacher: float32 [B, M], cosines of the keys with the candidates; None if no rule needs
            them.
        epoch: int32 [], counted from 0.
        epochs: of the whole run.
        given: float32 [B, M], see `teacher.similarities`; None without a teacher's embeddings.
    """

    positive: tf.Tensor
    logits: tf.Tensor
    valid: Pairs
    same: Sequence[Pairs]
    examples: tuple[tf.Tensor, tf.Tensor]
    temperature: float
    state: dict[str, tf.Tensor]
    teacher: tf.Tensor = None
    epoch: tf.Tensor | int = 0
    epochs: int = 1
    given: tf.Tensor = None

    def started(self, share: float) -> tf.Tensor:
        """Whether this share of the epochs is over, bool []."""
        return tf.cast(self.epoch, tf.float32) >= share * self.epochs


class Rule(abc.ABC):
    """Base of the classes in `treatments`, frozen dataclasses whose fields are their parameters.

    The flag reads a file's declarations without importing it, so class attributes and the
    arguments of `setting` are literals.

    Attributes:
        sets: parts of a treatment that only one rule may set: "target" or "sum". Those that set
            the sum come last, since they look at the weights.
        needs: "teacher" for its similarities, "epoch" for a schedule, "queue" or "batch" if the
            candidates must be those of MoCo or of SimCLR.
        detects: how it tells false negatives in the step: "pairs" by masks or attraction, "target"
            by the target's mass; empty: it detects none, or only labels tell.
        state: first values of what the rule keeps for each example, by name.
    """

    sets: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    detects: ClassVar[str] = ""
    state: ClassVar[dict[str, float]] = {}

    @abc.abstractmethod
    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        """The next treatment."""

    def next_state(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The anchors' new rows of `state`, which `apply` of the same step already gets."""
        return {}


# --- what rules have in common --------------------------------------------------------------------


def masked(treatment: Treatment, levels: Sequence[Pairs]) -> Treatment:
    """Weight 0 for the pairs of each level, beside those masked before.

    A single level, here or before, holds for all levels of the other.
    """

    def kept(pairs: Pairs, weigh: Factor, x: tf.Tensor) -> tf.Tensor:
        # A selection, not a product: a masked key then has exactly no gradient.
        return tf.where(pairs(), 0.0, weigh(x))

    def repeated(parts: Sequence) -> list:
        return [*parts] * (max(len(levels), len(treatment.weights)) // len(parts))

    weights = zip(repeated(levels), repeated(treatment.weights), strict=True)
    every = repeated(levels)
    if treatment.masked:
        both = zip(every, repeated(treatment.masked), strict=True)
        every = [functools.partial(reduced, tf.logical_or, *pairs) for pairs in both]
    return treatment._replace(
        weights=[functools.partial(kept, *each) for each in weights], masked=every
    )


def soft_targets(treatment: Treatment, batch: Batch, shares: tf.Tensor) -> Treatment:
    """Targets [B, M] of the candidates, 0 where invalid; the key has the rest of 1."""

    def targets(x: tf.Tensor) -> tf.Tensor:
        return tf.where(batch.valid(), shares * x, 0.0)

    return treatment._replace(targets=targets, key_target=1.0 - row_sums(shares))


def debiased(treatment: Treatment, batch: Batch, prior: tf.Tensor) -> Treatment:
    """The sum less that of a share `prior` of candidates as near as the key; see `debiased.py`."""
    count, rest = valid_counts(batch), 1.0 / (1.0 - prior)
    return treatment._replace(
        scale=treatment.scale * rest,
        positive_share=prior * count * rest,
        log_floor=tf.math.log(count) - 1.0 / batch.temperature,
    )


def softmax(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """The softmax of each row of [B, M] over its pairs; 0 elsewhere, and in a row without any."""
    values = tf.where(pairs, values, float("-inf"))
    largest = tf.maximum(tf.reduce_max(values, axis=1), -1e30)
    terms = tf.exp(values - largest[:, None])
    return terms / tf.maximum(row_sums(terms), 1e-30)[:, None]


def valid_counts(batch: Batch) -> tf.Tensor:
    """How many candidates of each anchor are valid, float32 [B]."""
    return row_counts([batch.valid])[0]


def reduced(operation: Callable, *pairs: Pairs) -> tf.Tensor:
    """Several masks as one."""
    return functools.reduce(operation, [each() for each in pairs])
