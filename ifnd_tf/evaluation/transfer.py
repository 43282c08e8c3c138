"""Classification of another data set by frozen features, of one label per image or several."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.evaluation.linear_probe import linear_probe

# Penalties among which each class's SVM chooses on its training examples.
COSTS = (0.01, 0.1, 1.0, 10.0)

ABSENT, PRESENT, IGNORED = 0, 1, -1


def transfer(
    train: Embeddings,
    test: Embeddings,
    *,
    neighbors: int = 200,
    temperature: float = 0.1,
    solver: str = "auto",
) -> Iterator[tuple[str, float]]:
    """kNN and linear probe on features of another data set.

    Args:
        train: that data set's training examples, embedded by the frozen encoder.
        test: its test examples.
        neighbors: of kNN; clipped to N.
        temperature: of kNN's votes.
        solver: of the linear probe.

    Yields:
        ("transfer_knn_top1", share), ("transfer_linear_top1", share) and, with more than five
        classes, the top-5 shares.
    """
    nearest = weighted_knn(train, test, neighbors=neighbors, temperature=temperature)
    for name, value in itertools.chain(nearest, linear_probe(train, test, solver=solver)):
        yield f"transfer_{name}", value


def transfer_svm(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    *,
    costs: Sequence[float] = COSTS,
    seed: int = 0,
) -> Iterator[tuple[str, float]]:
    """One linear SVM per class on unit-length features; mean average precision over classes.

    The VOC07 protocol of Goyal et al., "Scaling and Benchmarking Self-Supervised Visual
    Representation Learning", ICCV 2019, section 4: linear SVMs on frozen features, present
    examples weighted twice, each class's cost chosen by 3-fold cross-validation on its training
    examples. Here the costs are four powers of ten.

    Args:
        train_features: float `[N, F]`.
        train_targets: int `[N, C]`: 1 present, 0 absent, -1 ignored ("difficult" in VOC). For
            one label per image see `one_hot`.
        test_features: float `[M, F]`.
        test_targets: int `[M, C]`.
        costs: penalties C to choose from.
        seed: of folds and solver.

    Yields:
        ("transfer_svm_map", mean over classes of the area under the precision-recall curve),
        ("transfer_svm_map_voc07", the same by VOC2007's 11 points), both in `[0, 1]`.

    Raises:
        UserError: if no class has both present and absent examples in both parts.
    """
    train_features, test_features = _unit(train_features), _unit(test_features)
    areas, points = [], []
    for one in range(train_targets.shape[1]):
        shown, asked = train_targets[:, one] != IGNORED, test_targets[:, one] != IGNORED
        truth, test_truth = train_targets[shown, one], test_targets[asked, one]
        if len(np.unique(truth)) < 2 or len(np.unique(test_truth)) < 2:
            continue
        scores = _svm_scores(
            train_features[shown], truth, test_features[asked], costs=costs, seed=seed
        )
        areas.append(average_precision(scores, test_truth))
        points.append(average_precision_voc07(scores, test_truth))
    if not areas:
        raise UserError(
            "Expected a class with present and absent images in both splits for the SVM protocol. "
            f"Received: none among {train_targets.shape[1]} classes; choose another data set."
        )
    yield "transfer_svm_map", float(np.mean(areas))
    yield "transfer_svm_map_voc07", float(np.mean(points))


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Single labels int `[N]` as targets `[N, C]` of `transfer_svm`; -1 becomes all ignored."""
    targets = (labels[:, None] == np.arange(num_classes)).astype(np.int8)
    return np.where(labels[:, None] < 0, IGNORED, targets)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the interpolated precision-recall curve, as VOC since 2010.

    Args:
        scores: float `[M]`, higher means present.
        truth: `[M]`, 1 present, 0 absent; at least one present.

    Returns:
        In `[0, 1]`.
    """
    recall, precision = _interpolated(scores, truth)
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * precision))


def average_precision_voc07(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the interpolated precision at recall 0, 0.1, ..., 1 (Everingham et al. 2010).

    Args:
        scores: float `[M]`, higher means present.
        truth: `[M]`, 1 present, 0 absent; at least one present.

    Returns:
        In `[0, 1]`.
    """
    recall, precision = _interpolated(scores, truth)
    # The first place whose recall suffices; the tolerance makes 0.3 reach 0.1 * 3.
    at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-9)
    return float(np.mean(precision[at]))


def _interpolated(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall at every rank and the best precision at that recall or more, both `[M]`."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order] == PRESENT)
    precision = hits / np.arange(1, len(truth) + 1)
    return hits / hits[-1], np.maximum.accumulate(precision[::-1])[::-1]


def _svm_scores(
    features: np.ndarray,
    truth: np.ndarray,
    test_features: np.ndarray,
    *,
    costs: Sequence[float],
    seed: int,
) -> np.ndarray:
    def fitted(cost: float, rows: np.ndarray) -> LinearSVC:
        model = LinearSVC(C=cost, class_weight={0: 1, 1: 2}, random_state=seed, max_iter=5000)
        return model.fit(features[rows], truth[rows])

    everything = np.arange(len(truth))
    best = costs[0]
    folds = min(3, int(np.bincount(truth).min()))
    if len(costs) > 1 and folds > 1:
        splits = list(
            StratifiedKFold(folds, shuffle=True, random_state=seed).split(everything, truth)
        )

        def quality(cost: float) -> float:
            found = [
                average_precision(
                    fitted(cost, shown).decision_function(features[asked]), truth[asked]
                )
                for shown, asked in splits
            ]
            return float(np.mean(found))

        best = max(costs, key=quality)
    return fitted(best, everything).decision_function(test_features)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
