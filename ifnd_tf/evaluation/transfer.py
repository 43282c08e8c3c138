"""Classification of another data set's images, of one label or several, by frozen features."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings

# Penalties among which each class's SVM chooses on its training examples.
COSTS = (0.01, 0.1, 1.0, 10.0)

ABSENT, PRESENT, IGNORED = 0, 1, -1


def transfer_svm(
    train: Embeddings, test: Embeddings, *, costs: Sequence[float] = COSTS, seed: int = 0
) -> Iterator[tuple[str, float]]:
    """One linear SVM per class on unit-length features; mean average precision over classes.

    The VOC07 protocol of Goyal et al., "Scaling and Benchmarking Self-Supervised Visual
    Representation Learning", ICCV 2019, section 4: linear SVMs on frozen features, present
    examples weighted twice, each class's cost chosen by 3-fold cross-validation on its training
    examples. Here the costs are four powers of ten.

    Args:
        train: N examples; their labels are int `[N, C]`: 1 present, 0 absent, -1 ignored
            ("difficult" in VOC). For one label per image see `one_hot`.
        test: M examples, likewise.
        costs: penalties C to choose from.
        seed: of folds and solver.

    Yields:
        ("transfer_svm_map", mean over classes of the area under the precision-recall curve),
        ("transfer_svm_map_voc07", the same by VOC2007's 11 points), both in `[0, 1]`.

    Raises:
        UserError: if no class has both present and absent examples in both parts.
    """
    features, test_features = _unit(train.features), _unit(test.features)
    found = []
    for targets, test_targets in zip(train.labels.T, test.labels.T, strict=True):
        shown, asked = targets != IGNORED, test_targets != IGNORED
        if len(np.unique(targets[shown])) < 2 or len(np.unique(test_targets[asked])) < 2:
            continue
        svm = _svm(features[shown], targets[shown], costs, seed)
        scores = svm.decision_function(test_features[asked])
        found.append(average_precision(scores, test_targets[asked]))
    if not found:
        raise UserError(
            "Expected a class with present and absent images in both splits for the SVM protocol. "
            f"Received: none among {train.labels.shape[1]} classes; choose another data set."
        )
    area, points = np.mean(found, axis=0)
    yield "transfer_svm_map", float(area)
    yield "transfer_svm_map_voc07", float(points)


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Single labels int `[N]` as targets `[N, C]` of `transfer_svm`; -1 becomes all ignored."""
    targets = (labels[:, None] == np.arange(num_classes)).astype(np.int8)
    return np.where(labels[:, None] < 0, IGNORED, targets)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """VOC's two summaries of the interpolated precision-recall curve.

    Args:
        scores: float `[M]`, higher means present.
        truth: `[M]`, 1 present, 0 absent; at least one present.

    Returns:
        The area under the curve, as VOC since 2010, and the mean of the precision at recall
        0, 0.1, ..., 1, as VOC2007 (Everingham et al. 2010), both in `[0, 1]`.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order] == PRESENT)
    recall, precision = hits / hits[-1], hits / np.arange(1, len(truth) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at that recall or more
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    # The first place whose recall suffices; the tolerance makes 0.3 reach 0.1 * 3.
    at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-9)
    return area, float(np.mean(precision[at]))


def _svm(features: np.ndarray, truth: np.ndarray, costs: Sequence[float], seed: int) -> Any:
    """A fitted SVM whose cost cross-validation chose; the first where a class has one example."""
    model = LinearSVC(C=costs[0], class_weight={0: 1, 1: 2}, random_state=seed, max_iter=5000)
    folds = min(3, int(np.bincount(truth).min()))
    if folds > 1:

        def quality(model: LinearSVC, features: np.ndarray, truth: np.ndarray) -> float:
            return average_precision(model.decision_function(features), truth)[0]

        parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"C": costs}, scoring=quality, cv=parts)
    return model.fit(features, truth)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
