"""Chooses the clusters, removed negatives and neighbours that a report shows, in NumPy."""

import numpy as np

from ifnd_tf.report.pictures import Cluster, Neighbours, Removed


def clusters(
    labels: np.ndarray, confidence: np.ndarray, true_labels: np.ndarray, *, most: int, members: int
) -> list[Cluster]:
    """Chooses clusters evenly from the largest to the smallest.

    Args:
        labels: int [N] pseudo-labels of one level, -1: not accepted.
        confidence: float [N] in [0, 1].
        true_labels: int [N], -1: unknown.
        most: how many clusters at most.
        members: how many of the most, and of the least, confident members of each.

    Returns:
        The clusters, the largest first; their two lists of members are disjoint.
    """
    accepted = np.flatnonzero(labels >= 0)
    order = accepted[np.lexsort((-confidence[accepted].astype(np.float32), labels[accepted]))]
    numbers, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.argsort(-sizes, kind="stable")
    if len(ranks) > most:
        ranks = ranks[np.linspace(0, len(ranks) - 1, most).round().astype(int)]
    chosen = []
    for rank in ranks:
        indices = order[starts[rank] : starts[rank] + sizes[rank]]
        known = true_labels[indices]
        values, counts = np.unique(known[known >= 0], return_counts=True)
        chosen.append(
            Cluster(
                number=int(numbers[rank]),
                size=int(sizes[rank]),
                share=float(counts.max() / counts.sum()) if len(counts) else None,
                label=int(values[counts.argmax()]) if len(counts) else -1,
                most=indices[:members].tolist(),
                least=indices[members:][::-1][:members].tolist(),
            )
        )
    return chosen


def removed(
    labels: np.ndarray, true_labels: np.ndarray, *, anchors: int, shown: int, seed: int
) -> list[Removed]:
    """Draws anchors, and for each some of the detected false negatives.

    Args:
        labels: int [L, N] pseudo-labels, -1: not accepted.
        true_labels: int [N], -1: unknown.
        anchors: how many anchors at most.
        shown: how many false negatives of each at most.
        seed: of the draw.

    Returns:
        The anchors that have at least one false negative, in the order drawn.
    """
    rng = np.random.default_rng([seed, 1])
    candidates = rng.permutation(np.flatnonzero((labels >= 0).any(axis=0)))
    chosen: list[Removed] = []
    # A candidate may be alone in its clusters; after 20 tries per anchor, most are.
    for anchor in candidates[: 20 * anchors].tolist():
        same = (labels == labels[:, anchor, None]) & (labels[:, anchor, None] >= 0)
        same[:, anchor] = False
        masked = np.flatnonzero(same.any(axis=0))
        if not len(masked):
            continue
        classes = true_labels[masked]
        judged = true_labels[anchor] >= 0 and (classes >= 0).any()
        picks = rng.permutation(masked)[:shown]
        right = float((classes[classes >= 0] == true_labels[anchor]).mean()) if judged else None
        levels = [np.flatnonzero(same[:, pick]).tolist() for pick in picks]
        chosen.append(Removed(anchor, len(masked), right, picks.tolist(), levels))
        if len(chosen) == anchors:
            break
    return chosen


def neighbours(
    embedding: np.ndarray, indices: np.ndarray, *, queries: int, nearest: int, seed: int
) -> list[Neighbours]:
    """Draws queries and finds their nearest neighbours.

    Args:
        embedding: float [M, D], unit vectors.
        indices: int [M], the examples they belong to.
        queries: how many queries at most.
        nearest: how many neighbours of each at most, without the query itself.
        seed: of the draw.
    """
    rows = np.random.default_rng([seed, 2]).permutation(len(embedding))[:queries]
    cosine = embedding[rows] @ embedding.T
    cosine[np.arange(len(rows)), rows] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, : min(nearest, len(embedding) - 1)]
    return [
        Neighbours(
            query=int(indices[row]),
            nearest=indices[order[i]].tolist(),
            cosine=[round(float(value), 4) for value in cosine[i, order[i]]],
        )
        for i, row in enumerate(rows)
    ]
