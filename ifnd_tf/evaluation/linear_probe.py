"""Linear classification of frozen features."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.run.progress import Count, uncounted

_LOG = logging.getLogger(__name__)
# Above this many training examples `auto` takes SGD.
LBFGS_LIMIT = 100_000
# Numbers in the features, times classes, up to which BLAS runs on one thread.
_ONE_THREAD = 100_000_000


def linear_probe(
    train: Embeddings, test: Embeddings, *, solver: str = "auto", **sgd: Any
) -> Iterator[tuple[str, float]]:
    """Trains a linear classifier on frozen features and tests it once.

    Args:
        train: N training examples of two classes or more.
        test: the examples to test on; they play no part in any choice.
        solver: "lbfgs", "sgd", or "auto": lbfgs up to 100,000 training examples.
        **sgd: options of `sgd_scores`.

    Yields:
        ("linear_top1", share in `[0, 1]`) and, with more than five classes, ("linear_top5", share).

    Raises:
        UserError: if the training examples are all of one class.
    """
    if len(np.unique(train.labels)) < 2:
        raise UserError(
            "Expected training examples of at least two classes for a linear probe. Received: "
            f"{len(np.unique(train.labels))}. Choose a labelled data set, or leave 'linear' out of "
            "--protocols."
        )
    if solver == "auto":
        solver = "lbfgs" if len(train.labels) <= LBFGS_LIMIT else "sgd"
    if solver == "lbfgs":
        scores = lbfgs_scores(train, test.features)
    elif solver == "sgd":
        scores = sgd_scores(train, test.features, **sgd)
    else:
        raise UserError(f"--linear_solver: expected auto, lbfgs or sgd. Received: {solver!r}.")
    yield from accuracies("linear", scores, test.labels)


def accuracies(prefix: str, scores: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, float]]:
    """Top-1 and, with more than five classes, top-5 accuracy.

    Args:
        prefix: start of the metrics' names.
        scores: float `[N, C]`; -inf for a class that was not trained. Of equal scores the lower
            class comes first, as by argmax, so that equal scores for all are right by chance.
        labels: int32 `[N]`; one that is C or more is never right.

    Yields:
        (prefix + "_top1", share in `[0, 1]`), (prefix + "_top5", share).
    """
    known = labels < scores.shape[1]
    place = np.where(known, labels, 0)[:, None]
    own = np.take_along_axis(scores, place, axis=1)
    lower = np.arange(scores.shape[1]) < place
    rank = np.sum((scores > own) | ((scores == own) & lower), axis=1)
    right = known & (own[:, 0] > -np.inf)
    yield f"{prefix}_top1", float(np.mean(right & (rank < 1)))
    if scores.shape[1] > 5:
        yield f"{prefix}_top5", float(np.mean(right & (rank < 5)))


def lbfgs_scores(train: Embeddings, features: np.ndarray) -> np.ndarray:
    """Scores of multinomial logistic regression on standardised features, solved by L-BFGS.

    Features are standardised with the training examples' mean and deviation, and C = 1 is fixed:
    the penalty is then a unit Gaussian prior on weights whose inputs all have unit variance, so
    it does not depend on the scale of the features and fades as examples are added. Nothing is
    tuned, so no split is needed to tune on.

    Args:
        train: N training examples.
        features: float32 `[M, F]`, to be scored.

    Returns:
        float `[M, C]` with C = 1 + the largest training label; -inf for classes without examples.
    """
    mean, scale = train.features.mean(0), train.features.std(0)
    # A feature that never varies says nothing; dividing by its rounding noise would.
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-30), scale, np.inf)
    model = LogisticRegression(C=1.0, max_iter=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        inputs = (train.features - mean) / scale
        # On small problems the threads of BLAS mostly wait for each other: on a busy machine, ten
        # times as long as they compute.
        small = inputs.size * len(np.unique(train.labels)) <= _ONE_THREAD
        with threadpool_limits(1 if small else None, "blas"):
            model.fit(inputs, train.labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        _LOG.warning("The linear probe stopped after 1000 iterations before it converged.")
    found = model.decision_function((features - mean) / scale)
    if found.ndim == 1:
        found = np.stack([-found, found], axis=1)
    scores = np.full([len(features), int(train.labels.max()) + 1], -np.inf)
    scores[:, model.classes_] = found
    return scores


def sgd_scores(
    train: Embeddings,
    features: np.ndarray,
    *,
    epochs: int = 100,
    learning_rate: float = 30.0,
    batch_size: int = 256,
    seed: int = 0,
    report: Count = uncounted,
) -> np.ndarray:
    """Scores of a linear classifier trained as MoCo trains it, on cached features.

    He et al., "Momentum Contrast", CVPR 2020, section 4.1: SGD with momentum 0.9, learning rate 30
    at a batch of 256, divided by 10 after 60% and 80% of the epochs, no weight decay. Two
    deviations: features come from un-augmented centre views, computed once; and they are all
    divided by one number, their mean norm, so that one learning rate fits every encoder.

    Args:
        train: N training examples; may be memory-mapped.
        features: float32 `[M, F]`, to be scored.
        epochs: passes over the training examples.
        learning_rate: at a batch of 256; scaled linearly when fewer examples make a batch.
        batch_size: examples a step, clipped to N.
        seed: of the examples' order.
        report: called with the epochs done, and their number.

    Returns:
        float32 `[M, C]` with C = 1 + the largest training label; -inf for classes without examples.
    """
    random = np.random.default_rng(seed)
    count, width = train.features.shape
    classes = int(train.labels.max()) + 1
    batch_size = min(batch_size, count)
    scale = max(float(np.mean(np.linalg.norm(train.features[: 1 << 16], axis=1))), 1e-12)
    weights = tf.Variable(tf.zeros([width + 1, classes]))
    velocity = tf.Variable(tf.zeros([width + 1, classes]))

    @tf.function(autograph=False)
    def step(inputs: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor) -> None:
        inputs = _with_bias(inputs / scale)
        error = tf.nn.softmax(inputs @ weights) - tf.one_hot(labels, classes)
        gradient = tf.matmul(inputs, error, transpose_a=True) / batch_size
        velocity.assign(0.9 * velocity + gradient)
        weights.assign_sub(rate * velocity)

    for epoch in range(epochs):
        progress = epoch / epochs
        rate = learning_rate * batch_size / 256 * 0.1 ** ((progress >= 0.6) + (progress >= 0.8))
        order = random.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            step(train.features[rows], train.labels[rows], tf.constant(rate, tf.float32))
        report(epoch + 1, epochs)
    scores = [
        (_with_bias(features[i : i + 4096] / scale) @ weights).numpy()
        for i in range(0, len(features), 4096)
    ]
    result = np.concatenate(scores)
    result[:, np.setdiff1d(np.arange(classes), train.labels)] = -np.inf
    return result


def _with_bias(inputs: tf.Tensor) -> tf.Tensor:
    return tf.concat([inputs, tf.ones([tf.shape(inputs)[0], 1])], axis=1)
