"""Rules against rivals.md's formula: weights and targets of one anchor, by loops, in float64."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.treatments import rules
from tests import reference

B, M, N, TAU = 4, 24, 30, 0.2
HOWS = ("eager", "graph", "xla")


class Row(NamedTuple):
    """One anchor: its logit with the key, and with the n valid candidates their logits [n],
    teacher's cosines [n], agreement and confidence of labels [L, n] and vectors [n, D]; its
    example, and the epoch of epochs."""

    positive: float
    logits: np.ndarray
    teacher: np.ndarray
    same: np.ndarray
    confidence: np.ndarray
    vectors: np.ndarray
    example: int
    epoch: int
    epochs: int


class Treated(NamedTuple):
    """What a method makes of a row; by default InfoNCE's. Targets [1 + n] begin with the key's."""

    weights: np.ndarray
    targets: np.ndarray | None = None
    scale: float = 1.0
    positive_share: float = 0.0
    floor: float = 0.0
    key_in_sum: bool = True


Formula = Callable[[Row], Treated]


def treated_loss(positive, logits, made: Treated) -> float:
    """The formula of rivals.md."""
    total = made.scale * sum(w * np.exp(s) for w, s in zip(made.weights, logits, strict=True))
    key = np.exp(positive)
    z = made.key_in_sum * key + max(total - made.positive_share * key, made.floor)
    targets = np.eye(1 + len(logits))[0] if made.targets is None else made.targets
    np.testing.assert_allclose(np.sum(targets), 1.0)
    return -sum(t * (s - np.log(z)) for t, s in zip(targets, [positive, *logits], strict=True))


class Case(NamedTuple):
    """The arguments of `label_info_nce`, whose index -1 is an empty slot."""

    positive: np.ndarray
    logits: np.ndarray
    teacher: np.ndarray
    index: np.ndarray
    queued: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    queue: np.ndarray
    confidence: np.ndarray
    epoch: int = 5
    epochs: int = 10

    def rows(self) -> list[Row]:
        rows = []
        for b, i in enumerate(self.index):
            own = len(self.labels) > 0
            used = [j for j, q in enumerate(self.queued) if q >= 0 and not (own and q == i)]
            same = [
                [reference.false_negative(level[i], level[self.queued[j]]) for j in used]
                for level in self.labels
            ]
            rows.append(
                Row(
                    float(self.positive[b]), self.logits[b, used].astype(np.float64),
                    self.teacher[b, used].astype(np.float64), np.array(same, bool),
                    self.confidence[:, self.queued[used]], self.queue[used], int(i),
                    self.epoch, self.epochs,
                )
            )  # fmt: skip
        return rows


def case(seed=0, levels=0, empty=3, **others) -> Case:
    """Random unit vectors' similarities; `empty` slots of the queue hold nothing yet."""
    random = np.random.default_rng(seed)

    def unit(count):
        x = random.normal(size=(count, 5))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    anchors, keys, queue = unit(B), unit(B), unit(M)
    queued = random.integers(0, N, M).astype(np.int32)
    queued[M - empty :] = -1
    return Case(
        (np.sum(anchors * keys, axis=1) / TAU).astype(np.float32),
        (anchors @ queue.T / TAU).astype(np.float32),
        (keys @ queue.T).astype(np.float32),
        random.permutation(N)[:B].astype(np.int32),
        queued,
        random.integers(-1, 3, (levels, N)).astype(np.int32),
        keys.astype(np.float32),
        queue.astype(np.float32),
        random.random((levels, N)).astype(np.float32),
        **others,
    )


@functools.lru_cache(maxsize=64)
def function(text: str, epochs: int, how: str) -> Callable:
    """The loss with the rules of a flag, eager, as a graph, or compiled."""
    settings = LossSettings(TAU, rules(text), epochs=epochs)
    plain = label_info_nce.python_function

    def loss(positive, logits, valid, index, labels, inputs):
        with tf.GradientTape() as tape:
            tape.watch([positive, logits])
            found = plain(positive, logits, valid, index, labels, settings, inputs)
            total = tf.reduce_sum(found.per_anchor)
        return found, tape.gradient(total, [positive, logits])

    if how == "eager":
        return loss
    return tf.function(loss, jit_compile=how == "xla", autograph=False)


def found(text: str, given: Case, how="eager", state=None):
    """The `ContrastiveLoss` and its gradients by the positives [B] and the logits [B, M]."""
    labels = np.concatenate([given.labels, np.full((len(given.labels), 1), -1, np.int32)], axis=1)
    return function(text, given.epochs, how)(
        tf.constant(given.positive),
        tf.constant(given.logits),
        tf.constant(given.queued >= 0),
        (tf.constant(given.index), tf.constant(given.queued)),
        (tf.constant(labels[:, given.index]), tf.constant(labels[:, given.queued])),
        RuleInputs(
            state={name: tf.constant(value, tf.float32) for name, value in (state or {}).items()},
            key_similarities=tf.constant(given.teacher),
            embeddings=(tf.constant(given.keys), tf.constant(given.queue)),
            confidence=tf.constant(given.confidence[:, np.maximum(given.queued, 0)]),
            epoch=tf.constant(given.epoch),
        ),
    )


def assert_equals(text: str, formula: Formula, given: Case, how="eager", state=None, through=False):
    """Loss and gradients are those of the formula.

    Args:
        text: of the flag.
        formula: the method.
        given: the batch.
        how: of `HOWS`.
        state: rows of the rule's state.
        through: whether the gradient flows through the formula.
    """
    loss, (to_positive, to_logits) = found(text, given, how, state)
    for b, row in enumerate(given.rows()):
        fixed = formula(row)

        def value(x, row=row, fixed=fixed):
            made = formula(row._replace(positive=x[0], logits=x[1:])) if through else fixed
            return treated_loss(x[0], x[1:], made)

        x = np.array([row.positive, *row.logits])
        np.testing.assert_allclose(loss.per_anchor[b], value(x), rtol=3e-6, atol=3e-6)
        slopes = reference.slopes(value, x)
        np.testing.assert_allclose(to_positive[b], slopes[0], atol=2e-5)
        used = given.queued >= 0
        if len(given.labels):
            used &= given.queued != given.index[b]
        np.testing.assert_allclose(to_logits.numpy()[b, used], slopes[1:], atol=2e-5)
        assert not np.any(to_logits.numpy()[b, ~used])


def assert_same(one: str, other: str, given: Case, atol=3e-6):
    """Two flags give the same loss and gradients."""
    (ours, our_gradients), (theirs, their_gradients) = (found(text, given) for text in (one, other))
    for x, y in zip(
        (ours.per_anchor, *our_gradients), (theirs.per_anchor, *their_gradients), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol)


def softmax(values):
    """[n] -> [n]."""
    terms = [np.exp(value) for value in values]
    return np.array([term / sum(terms) for term in terms])
