"""Linear classification of frozen features, with SciPy, which JAX brings along.

Counterparts of `ifnd_tf.evaluation.linear_probe`, which needs scikit-learn and TensorFlow.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

# Above this many training examples `auto` takes SGD, as the product does.
LBFGS_LIMIT = 100_000


def linear_probe(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    solver: str,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> Iterator[tuple[str, float]]:
    """Trains on features [N, F] with labels [N]; yields linear_top1 and, from 6 classes, top5."""
    if solver == "auto":
        solver = "lbfgs" if len(train[1]) <= LBFGS_LIMIT else "sgd"
    if solver == "lbfgs":
        scores = lbfgs_scores(*train, test[0])
    else:
        scores = sgd_scores(*train, test[0], epochs=epochs, learning_rate=learning_rate, seed=seed)
    known = test[1] < scores.shape[1]  # else a class without training examples
    place = np.where(known, test[1], 0)[:, None]
    own = np.take_along_axis(scores, place, axis=1)
    lower = np.arange(scores.shape[1]) < place
    rank = np.sum((scores > own) | ((scores == own) & lower), axis=1)
    right = known & np.isfinite(own[:, 0])
    yield "linear_top1", float(np.mean(right & (rank < 1)))
    if scores.shape[1] > 5:
        yield "linear_top5", float(np.mean(right & (rank < 5)))


def lbfgs_scores(features: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression on standardised features, penalty |W|^2 / 2: [M, C].

    SciPy's L-BFGS on the host; loss and gradient are computed in float64 where JAX computes.
    """
    import jax

    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-30), scale, np.inf)
    classes = int(labels.max()) + 1
    inputs = jax.device_put(((features - mean) / scale).astype(np.float64))
    truth = jax.device_put(np.eye(classes)[labels])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _loss_and_gradient()(flat.reshape(-1, classes), inputs, truth)
        return float(value), np.asarray(gradient).ravel()

    start = np.zeros((features.shape[1] + 1) * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    table = found.x.reshape(-1, classes)
    return (test - mean) / scale @ table[:-1] + table[-1]


@functools.cache
def _loss_and_gradient() -> Any:
    """Weights [F + 1, C], biases in the last row -> the mean loss per example and its gradient."""
    import jax
    import jax.numpy as jnp

    def loss(table: Any, inputs: Any, truth: Any) -> Any:
        weights, bias = table[:-1], table[-1]
        chosen = jax.nn.log_softmax(inputs @ weights + bias) * truth
        return (0.5 * jnp.sum(weights**2) - jnp.sum(chosen)) / len(inputs)

    return jax.jit(jax.value_and_grad(loss))


def few_labels(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    subsets: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, float]]:
    """Linear probes that are shown some labels only.

    Args:
        train, test: features and labels.
        subsets: rows of the training examples [subsets, n] by the share's name, such as 1pct.

    Yields:
        As `ifnd_tf.evaluation.few_labels.label_subset_probe`, top-1 alone.
    """
    features, labels = train
    for name, draws in subsets.items():
        found = [
            np.mean(np.argmax(lbfgs_scores(features[rows], labels[rows], test[0]), 1) == test[1])
            for rows in draws
        ]
        yield f"linear_{name}_top1", float(np.mean(found))
        yield f"linear_{name}_top1_std", float(np.std(found))


def sgd_scores(
    features: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    batch_size: int = 256,
) -> np.ndarray:
    """MoCo's recipe on features of mean norm 1, rate divided by 10 at 60% and 80%: [M, C]."""
    random = np.random.default_rng(seed)
    count, classes = len(labels), int(labels.max()) + 1
    batch_size = min(batch_size, count)
    norm = max(float(np.mean(np.linalg.norm(features[: 1 << 16], axis=1))), 1e-12)

    def with_bias(rows: np.ndarray) -> np.ndarray:
        return np.hstack([rows / norm, np.ones((len(rows), 1), np.float32)])

    inputs, truth = with_bias(features), np.eye(classes, dtype=np.float32)
    weights = np.zeros((inputs.shape[1], classes), np.float32)
    velocity = np.zeros_like(weights)
    for epoch in range(epochs):
        progress = epoch / epochs
        rate = learning_rate * batch_size / 256 * 0.1 ** ((progress >= 0.6) + (progress >= 0.8))
        order = random.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            error = softmax(inputs[rows] @ weights, axis=1) - truth[labels[rows]]
            velocity = 0.9 * velocity + inputs[rows].T @ error / batch_size
            weights -= np.float32(rate) * velocity
    return with_bias(test) @ weights
