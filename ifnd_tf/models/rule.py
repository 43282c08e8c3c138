"""A rule of `--treatment` turns a batch and the treatment so far into the next treatment.

Rules compose: each changes some of a `Treatment`'s parts and leaves the others.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import tensorflow as tf

from ifnd_tf.models.info_nce import Factor, Pairs, Treatment, row_counts, row_sums


class RuleInputs(NamedTuple):
    """Inputs of the loss that only some rules read, for B anchors and M candidates.

    Attributes:
        state: the anchors' rows of each `Rule.state`, float32 [B, ...], by name.
        key_similarities: float32 [B, M], cosines of the keys with the candidates, by the momentum
            encoder that papers call the teacher; None if no rule needs them.
        embeddings: unit vectors of the keys float32 [B, D] and of the candidates [M, D]; empty if
            no rule needs them.
        confidence: of the candidates' labels, float32 [L, M]; None if no rule needs it.
        epoch: int32 [], counted from 0.
        teacher_similarities: float32 [B, M], see `teacher.similarities`; None without `--teacher`.
    """

    state: dict[str, tf.Tensor]
    key_similarities: tf.Tensor = None
    embeddings: Sequence[tf.Tensor] = ()
    confidence: tf.Tensor = None
    epoch: tf.Tensor | int = 0
    teacher_similarities: tf.Tensor = None


class Batch(NamedTuple):
    """The inputs of a rule, for B anchors and M candidates. Without gradient.

    Attributes:
        positive: float32 [B], the student's similarities to the keys, divided by tau.
        logits: float32 [B, M], to the candidates, likewise.
        valid: which candidates count.
        num_valid: how many of them each anchor has, float32 [B].
        same: for each level, the valid or invalid pairs whose labels agree; empty without labels.
        examples: indices of the anchors int32 [B], and of the candidates int32 [M].
        temperature: tau.
        epochs: of the whole run.
        inputs: those that only some rules read.
    """

    positive: tf.Tensor
    logits: tf.Tensor
    valid: Pairs
    num_valid: tf.Tensor
    same: Sequence[Pairs]
    examples: tuple[tf.Tensor, tf.Tensor]
    temperature: float
    epochs: int = 1
    inputs: RuleInputs = RuleInputs({})

    def started(self, share: float) -> tf.Tensor:
        """Whether this share of the epochs is over, bool []."""
        return tf.cast(self.inputs.epoch, tf.float32) >= share * self.epochs


class Rule(abc.ABC):
    """Base of the classes in `treatments`, frozen dataclasses whose fields are their parameters.

    The flag reads a file's declarations without importing it, so class attributes and the
    arguments of `setting` are literals.

    Attributes:
        sets: parts of a treatment that only one rule may set: "target" or "sum". Rules that set
            the sum are applied last, since they read the weights.
        needs: "labels" of a detector, and their "confidence"; "key_similarities" or "embeddings" of
            the `RuleInputs`; "queue" or "batch" if the candidates must be those of MoCo or of
            SimCLR; "epoch" for a schedule.
        detects: how it finds false negatives in the step: "pairs" by masks or attraction,
            "weights" by weights below 1, "target" by the target's mass; empty: it finds none, or
            takes them from the pseudo-labels.
        state: first values of what the rule keeps for each example, by name.
        weak_keys: whether the keys' views are only cropped and flipped.
    """

    sets: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    detects: ClassVar[str] = ""
    state: ClassVar[dict[str, float]] = {}
    weak_keys: bool = False

    @abc.abstractmethod
    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        """The next treatment."""

    def state_shape(self, width: int) -> tuple[int, ...]:
        """Shape of one example's entry in each `state`; `width` is D."""
        return ()

    def next_state(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The anchors' new rows of `state`, which `apply` of the same step already gets."""
        return {}


# --- shared by the rules --------------------------------------------------------------------------


def weighed(treatment: Treatment, levels: Sequence[Factor]) -> Treatment:
    """The treatment's weights times those of each level.

    If one side has a single level, it is repeated for all levels of the other.
    """

    def product(first: Factor, second: Factor, x: tf.Tensor) -> tf.Tensor:
        return second(first(x))

    count = max(len(levels), len(treatment.weights))
    both = zip(_repeated(treatment.weights, count), _repeated(levels, count), strict=True)
    return treatment._replace(
        weights=[functools.partial(product, *each) for each in both],
        masked=_repeated(treatment.masked, count),
    )


def masked(treatment: Treatment, levels: Sequence[Pairs]) -> Treatment:
    """Weight 0 for the pairs of each level, beside those masked before; see `weighed`."""

    def kept(pairs: Pairs, x: tf.Tensor) -> tf.Tensor:
        # A selection, not a product: a masked key then has exactly no gradient.
        return tf.where(pairs(), 0.0, x)

    treatment = weighed(treatment, [functools.partial(kept, pairs) for pairs in levels])
    every = _repeated(levels, len(treatment.weights))
    if treatment.masked:
        both = zip(every, treatment.masked, strict=True)
        every = [functools.partial(reduced, tf.logical_or, *pairs) for pairs in both]
    return treatment._replace(masked=every)


def attracted(treatment: Treatment, batch: Batch, levels: Sequence[Pairs]) -> Treatment:
    """Targets of 1/|P| on the key and the valid pairs of a level; the mean over the levels."""
    found = [functools.partial(reduced, tf.logical_and, p, batch.valid) for p in levels]
    shares = 1.0 / (len(found) * (1.0 + row_counts(found)))

    def targets(x: tf.Tensor) -> tf.Tensor:
        each = zip(found, tf.unstack(shares[:, :, None], len(found)), strict=True)
        return tf.add_n([tf.where(pairs(), share * x, 0.0) for pairs, share in each])

    key_target = tf.reduce_sum(shares, axis=0)
    return treatment._replace(key_target=key_target, targets=targets, attracted=levels)


def _repeated(parts: Sequence, count: int) -> list:
    return [*parts] * (count // max(1, len(parts)))


def soft_targets(
    treatment: Treatment, batch: Batch, terms: tf.Tensor, share: tf.Tensor | float = 1.0
) -> Treatment:
    """Valid candidates share a target of `share` [B], in proportion to `terms` [B, M].

    The key's target is the rest, 1 - share; it is 1 where no valid candidate has a term above 0.
    """
    sums = row_sums(tf.where(batch.valid(), terms, 0.0))
    scale = share / tf.where(sums > 0.0, sums, 1.0)

    def targets(x: tf.Tensor) -> tf.Tensor:
        return tf.where(batch.valid(), terms * (scale[:, None] * x), 0.0)

    return treatment._replace(targets=targets, key_target=tf.where(sums > 0.0, 1.0 - share, 1.0))


def debiased(treatment: Treatment, batch: Batch, prior: tf.Tensor) -> Treatment:
    """Subtracts a share `prior` of the candidates, taken to equal the key; see `debiased.py`."""
    count, rest = batch.num_valid, 1.0 / (1.0 - prior)
    return treatment._replace(
        scale=treatment.scale * rest,
        positive_share=prior * count * rest,
        log_floor=tf.math.log(count) - 1.0 / batch.temperature,
    )


def likeness(batch: Batch, similarities: tf.Tensor, temperature: float) -> tf.Tensor:
    """t / T less the row's largest, float32 [B, M]; -inf where invalid.

    Args:
        batch: says which candidates are valid.
        similarities: t, float32 [B, M], cosines.
        temperature: T > 0.
    """
    values = tf.where(batch.valid(), similarities, float("-inf"))
    # At least -1: a row of -inf alone would become NaN.
    largest = tf.maximum(tf.reduce_max(values, axis=1), -1.0)
    return (values - largest[:, None]) / temperature


def reduced(operation: Callable, *pairs: Pairs) -> tf.Tensor:
    """Several masks as one."""
    return functools.reduce(operation, [each() for each in pairs])
