"""Are accepted pairs better than the pairs that any embedding gives for free?"""

from typing import Any

import numpy as np

from ifnd_tf.detection.pseudo_labels import count_pairs, group_sizes


def neighbour_statistics(
    points: np.ndarray, pseudo_labels: np.ndarray, true_labels: np.ndarray
) -> dict[str, Any]:
    """Precision of detected pairs beside that of an equal number of nearest-neighbour pairs.

    Among the examples given, the pairs that a level detects are counted, M of them, and the M
    most similar pairs of all are taken instead. Clustering earns its keep where its pairs are
    the more precise ones.

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
    pairs = [int(_pairs(level)) for level in levels]
    sampled = [
        _pairs(level, truth) / count if count else None
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


def _pairs(labels: np.ndarray, *columns: np.ndarray) -> float:
    """How many pairs of accepted examples agree in their labels, and in the columns."""
    accepted = labels >= 0
    return count_pairs(group_sizes(*(column[accepted] for column in (labels, *columns))))


def _nearest_precision(
    points: np.ndarray, truth: np.ndarray, counts: list[int]
) -> list[float | None]:
    """Share of same-class pairs among the M most similar ones, for each M of `counts`.

    Of equally similar pairs as many are right as of all of them, whichever would be taken.
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
