"""Mutual nearest neighbours as labels.

Equality of labels is transitive, and similarity is not: connected components of the pairs would
chain to a few giant clusters. So each pair is kept as it is. A level holds pairs of
which no two share an example, each pair with a label of its own; with several levels, whose union
is masked, an example has a pair in each.
"""

import numpy as np
import tensorflow as tf

# Rows whose similarities to all examples exist at once.
_ROWS = 1024


def mutual_pairs(points: np.ndarray, num_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of examples that are among each other's nearest neighbours.

    Args:
        points: float32 [n, D], unit vectors.
        num_neighbours: k.

    Returns:
        int32 [P, 2], the first example before the second, the most similar pairs first; and their
        cosines float32 [P].
    """
    count = len(points)
    k = max(0, min(num_neighbours, count - 1))
    nearest = np.zeros([count, k], np.int32)
    similarity = np.zeros([count, k], np.float32)
    for start in range(0, count, _ROWS):
        rows = points[start : start + _ROWS]
        cosines = tf.matmul(rows, points, transpose_b=True)
        own = tf.range(start, start + len(rows))[:, None] == tf.range(count)[None, :]
        found = tf.math.top_k(tf.where(own, float("-inf"), cosines), k)
        nearest[start : start + len(rows)] = found.indices
        similarity[start : start + len(rows)] = found.values
    first = np.repeat(np.arange(count, dtype=np.int64), k)
    second = nearest.ravel().astype(np.int64)
    codes = np.minimum(first, second) * count + np.maximum(first, second)
    # A mutual pair comes twice, once from each side.
    codes, place, times = np.unique(codes, return_index=True, return_counts=True)
    codes, cosines = codes[times == 2], similarity.ravel()[place[times == 2]]
    order = np.argsort(-cosines, kind="stable")
    pairs = np.stack([codes // count, codes % count], axis=1)
    return pairs[order].astype(np.int32), cosines[order]


def as_levels(pairs: np.ndarray, num_levels: int, num_examples: int) -> np.ndarray:
    """Labels int32 [L, N]: each pair in the first level that has neither of its examples.

    Args:
        pairs: int [P, 2], the most important first; those that fit in no level are left out.
        num_levels: L.
        num_examples: N.
    """
    labels = np.full([num_levels, num_examples], -1, np.int32)
    for label, (one, other) in enumerate(pairs):
        free = (labels[:, one] < 0) & (labels[:, other] < 0)
        if free.any():
            labels[free.argmax(), [one, other]] = label
    return labels
