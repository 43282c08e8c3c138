"""Are accepted pairs better than the pairs that any embedding gives for free?"""

from typing import Any

import numpy as np


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
    size = len(points)
    later = np.tri(size, dtype=bool).T  # each pair once: the second example after the first
    np.fill_diagonal(later, False)
    same = truth[:, None] == truth
    found = [(level[:, None] == level) & (level >= 0)[:, None] & later for level in levels]
    pairs = [int(detected.sum()) for detected in found]
    sampled = [
        float(np.mean(same[detected])) if count else None
        for detected, count in zip(found, pairs, strict=True)
    ]
    neighbours = _nearest_precision(points, same, later, pairs)
    result: dict[str, Any] = {
        "level_sampled_pairs": pairs,
        "level_sampled_precision": sampled,
        "level_neighbour_precision": neighbours,
    }
    if any(pairs):
        for name, values in (("sampled", sampled), ("neighbour", neighbours)):
            result[f"{name}_precision"] = float(np.mean([v for v in values if v is not None]))
    return result


def _nearest_precision(
    points: np.ndarray, same: np.ndarray, later: np.ndarray, counts: list[int]
) -> list[float | None]:
    """Share of same-class pairs among the M most similar ones, for each M of `counts`."""
    most = max(counts)
    if not most:
        return [None] * len(counts)
    similarity = points @ points.T
    similarity[~later] = -np.inf
    flat = similarity.ravel()
    # Not a full sort: of millions of pairs only the top ones matter.
    top = np.argpartition(flat, flat.size - most)[flat.size - most :]
    order = top[np.argsort(-flat[top], kind="stable")]
    hits = np.cumsum(same.ravel()[order])
    return [float(hits[count - 1] / count) if count else None for count in counts]
