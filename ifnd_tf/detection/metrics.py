"""Metrics of detection, pure NumPy: precision and recall of pairs, NMI, purity, label churn.

A pair of examples is detected at a level when both pseudo-labels are accepted and equal.
"""

from typing import Any

import numpy as np

from ifnd_tf.errors import UserError

# Codes of groups that are counted in an array, for each example.
_MOST_CODES = 8


def detection_statistics(pseudo_labels: np.ndarray, true_labels: np.ndarray) -> dict[str, Any]:
    """Precision and recall of the pairs with equal pseudo-labels, and more.

    A pair is relevant when both true labels are known and equal. Examples of unknown class are
    left out.

    Args:
        pseudo_labels: int [L, N], -1 not accepted.
        true_labels: int [N], -1 unknown.

    Returns:
        One flat dict of numbers in [0, 1], None where there is nothing to measure. "precision",
        "recall" and "f1" over pairs, "nmi" and "purity" of the accepted examples, "accepted"
        (their share): means over the levels that have one. Each also as "level_<name>", a list
        of L. "union_precision", "union_recall", "union_f1": pairs detected at one level or more;
        "union_accepted": examples accepted at one or more. "chance_precision": the precision of
        pairs drawn at random. Costs N log N per level and, for the union, per subset of levels.

    Raises:
        UserError: no true label is known.
    """
    pseudo_labels, true_labels = np.atleast_2d(pseudo_labels), np.asarray(true_labels)
    known = true_labels >= 0
    if not known.any():
        raise UserError(
            "Expected true labels to measure detection against. Received: none that is known. "
            "Use labelled data, or leave these statistics out."
        )
    pseudo_labels, true_labels = pseudo_labels[:, known], true_labels[known]
    relevant = _agreeing_pairs(true_labels)
    levels = []
    for labels in pseudo_labels:
        accepted = labels >= 0
        levels.append(
            _pair_scores(labels[None], true_labels, relevant)
            | _agreement(labels[accepted], true_labels[accepted])
            | {"accepted": float(accepted.mean())}
        )
    result: dict[str, Any] = {}
    for name in levels[0]:
        result[f"level_{name}"] = [level[name] for level in levels]
        measured = [value for value in result[f"level_{name}"] if value is not None]
        result[name] = float(np.mean(measured)) if measured else None
    union = _pair_scores(pseudo_labels, true_labels, relevant)
    union["accepted"] = float((pseudo_labels >= 0).any(axis=0).mean())
    pairs = len(true_labels) * (len(true_labels) - 1) // 2
    result["chance_precision"] = relevant / pairs if pairs else None
    return result | {f"union_{name}": value for name, value in union.items()}


def label_churn(old: np.ndarray, new: np.ndarray) -> float:
    """Share of detected pairs that changed from one refresh to the next, in [0, 1].

    One minus the Jaccard index of the two sets of pairs with equal, accepted labels. Pairs,
    because they are what the loss masks, and because renaming clusters then changes
    nothing, which matters where centroids are not warm-started. A pair that is new because
    acceptance grew counts as changed: its mask did change.

    Args:
        old: int [L, N] or [N], pseudo-labels before, -1 not accepted.
        new: the same, after.

    Returns:
        The mean over levels; 0 when the same pairs are detected (or none before and after),
        1 when no pair is common.
    """
    changes = []
    for was, now in zip(np.atleast_2d(old), np.atleast_2d(new), strict=True):
        both = (was >= 0) & (now >= 0)
        common = _agreeing_pairs(was[both], now[both])
        union = _detected_pairs(was[None]) + _detected_pairs(now[None]) - common
        changes.append(1.0 - common / union if union else 0.0)
    return float(np.mean(changes))


def neighbour_statistics(
    points: np.ndarray, pseudo_labels: np.ndarray, true_labels: np.ndarray
) -> dict[str, Any]:
    """Precision of detected pairs beside that of an equal number of nearest-neighbour pairs.

    Of the examples given, a level detects M pairs; the baseline is the M most similar pairs of
    all. Clustering is worth its cost where its pairs are the more precise ones.

    Args:
        points: float32 [S, D], unit vectors; some thousands, since all S x S pairs are ranked.
        pseudo_labels: int [L, S], -1 not accepted.
        true_labels: int [S], -1 unknown; such examples are left out.

    Returns:
        "sampled_precision" and "neighbour_precision", in [0, 1]: means over the levels that
        detect a pair; left out if none does. "level_sampled_precision",
        "level_neighbour_precision": lists of L, None where no pair is detected;
        "level_sampled_pairs": M of each level.
    """
    known = true_labels >= 0
    points, truth, levels = points[known], true_labels[known], pseudo_labels[:, known]
    pairs = [int(_detected_pairs(level[None])) for level in levels]
    sampled = [
        _detected_pairs(level[None], truth) / count if count else None
        for level, count in zip(levels, pairs, strict=True)
    ]
    neighbours = _nearest_precision(points, truth, pairs)
    result: dict[str, Any] = {
        "level_sampled_pairs": pairs,
        "level_sampled_precision": sampled,
        "level_neighbour_precision": neighbours,
    }
    if any(pairs):
        for name, values in (("sampled", sampled), ("neighbour", neighbours)):
            result[f"{name}_precision"] = float(np.mean([v for v in values if v is not None]))
    return result


def _group_sizes(*columns: np.ndarray) -> np.ndarray:
    """Sizes of the groups of examples that agree in every column [N], of numbers from 0 on."""
    combined, codes = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if codes * width >= 1 << 62:
            values, combined = np.unique(combined, return_inverse=True)
            codes = len(values)
        combined, codes = combined * width + column.astype(np.int64), codes * width
    if codes <= _MOST_CODES * len(combined):  # counting takes a tenth of the time of sorting
        sizes = np.bincount(combined)
        return sizes[sizes > 0]
    return np.unique(combined, return_counts=True)[1]


def _agreeing_pairs(*columns: np.ndarray) -> float:
    """Unordered pairs of examples that agree in every column [N]."""
    sizes = _group_sizes(*columns).astype(np.int64)
    # Python integers do not overflow; int64 would for one group of 4e9 examples.
    return float(int((sizes * (sizes - 1) // 2).sum()))


def _detected_pairs(levels: np.ndarray, truth: np.ndarray | None = None) -> float:
    """Pairs detected at one level [N] or more, of the same class if the truth [N] is given."""
    total = 0.0
    for subset in range(1, 1 << len(levels)):  # by inclusion and exclusion
        rows = [level for bit, level in enumerate(levels) if subset >> bit & 1]
        mask = np.all([row >= 0 for row in rows], axis=0)
        columns = [row[mask] for row in rows] + ([] if truth is None else [truth[mask]])
        total += (-1) ** (len(rows) + 1) * _agreeing_pairs(*columns)
    return total


def _pair_scores(levels: np.ndarray, truth: np.ndarray, relevant: float) -> dict[str, float | None]:
    """Precision, recall and F1 of the detected pairs; None where undefined.

    Without accepted examples nothing was measured, so recall is None, not 0.
    """
    found, detected = _detected_pairs(levels, truth), _detected_pairs(levels)
    measured = relevant and np.any(levels >= 0)
    return {
        "precision": found / detected if detected else None,
        "recall": found / relevant if measured else None,
        "f1": 2.0 * found / (detected + relevant) if measured else None,
    }


def _entropy(sizes: np.ndarray) -> float:
    """Entropy in nats of a random member's group, for groups of these sizes."""
    shares = sizes / sizes.sum()
    return float(-np.sum(shares * np.log(shares)))


def _agreement(labels: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """NMI (arithmetic mean) and purity of the accepted examples; None when there are none."""
    if not len(labels):
        return {"nmi": None, "purity": None}
    classes = int(truth.max()) + 1
    cells, counts = np.unique(labels.astype(np.int64) * classes + truth, return_counts=True)
    largest = np.zeros(int(labels.max()) + 1, np.int64)
    np.maximum.at(largest, cells // classes, counts)
    marginal = _entropy(_group_sizes(labels)) + _entropy(_group_sizes(truth))
    mutual = marginal - _entropy(counts)
    return {
        # A single group on both sides is full agreement; a rounding error is none at all.
        "nmi": 1.0 if marginal == 0.0 else 2.0 * mutual / marginal if mutual > 1e-12 else 0.0,
        "purity": float(largest.sum() / len(labels)),
    }


def _nearest_precision(
    points: np.ndarray, truth: np.ndarray, counts: list[int]
) -> list[float | None]:
    """Share of same-class pairs among the M most similar ones, for each M of `counts`.

    Equally similar pairs at the threshold count by the share of same-class pairs among them.
    """
    if not any(counts):
        return [None] * len(counts)
    once = np.triu(np.ones([len(points)] * 2, bool), 1)  # the second example after the first
    similarity, same = (points @ points.T)[once], (truth[:, None] == truth)[once]
    # Not a sort: of millions of pairs only the M-th most similar matters.
    last = similarity.size - np.array(counts)
    ranked = np.partition(similarity, sorted({place for place in last if place < len(similarity)}))

    def precision(count: int, threshold: float) -> float:
        above, level = similarity > threshold, similarity == threshold
        rest = count - np.count_nonzero(above)
        return float((np.count_nonzero(same & above) + rest * np.mean(same[level])) / count)

    return [
        precision(count, ranked[place]) if count else None
        for count, place in zip(counts, last, strict=True)
    ]
