"""The slow truth: the method in NumPy, float64, with loops, close to the equations.

Nothing here is fast or clever, so that it can be checked by reading. Symbols as in the
method: N examples, B batch, Q queue, D width, K clusters, L levels.
"""

import numpy as np


def squared_distances(points, centroids):
    """[N, K] squared Euclidean distances, from differences rather than products."""
    return np.array([[np.sum((x - c) ** 2) for c in centroids] for x in points], np.float64)


def kmeans_step(points, centroids):
    """One Lloyd iteration; an empty cluster moves to the worst-fitted point left.

    Returns the new centroids [K, D] and, of the old ones, assignments [N] and the inertia.
    """
    distances = squared_distances(points, centroids)
    assignments = distances.argmin(axis=1)
    fit = distances.min(axis=1)
    worst_first = list(np.argsort(-fit, kind="stable"))
    moved = np.zeros(np.shape(centroids), np.float64)
    for k in range(len(centroids)):
        members = np.asarray(points, np.float64)[assignments == k]
        moved[k] = members.mean(axis=0) if len(members) else points[worst_first.pop(0)]
    return moved, assignments, fit.sum()


def confidence(points, centroids, assignments, temperature):
    """[N], the softmax over cosines to the centroids at the own one (eq. 3)."""
    result = []
    for x, own in zip(np.asarray(points, np.float64), assignments, strict=True):
        cosines = np.array([x @ c / (np.linalg.norm(x) * np.linalg.norm(c)) for c in centroids])
        weights = np.exp(cosines / temperature)
        result.append(weights[own] / weights.sum())
    return np.array(result)


def accept(confidence, assignments, rate, scope="global"):
    """bool [N]: walks down the ranking, one example at a time, until the share is reached."""
    accepted = np.zeros(len(confidence), bool)
    groups = [0] if scope == "global" else sorted(set(assignments) - {-1})
    for group in groups:
        members = [
            i for i, a in enumerate(assignments) if a >= 0 and (scope == "global" or a == group)
        ]
        ranking = sorted(members, key=lambda i: (-confidence[i], i))
        for i in ranking[: int(rate * len(members) + 0.5)]:
            accepted[i] = True
    return accepted


def same_pairs(labels):
    """The set of pairs (i, j), i < j, whose labels are accepted and equal."""
    n = len(labels)
    return {
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if labels[i] >= 0 and labels[i] == labels[j]
    }


def pair_scores(found, relevant):
    """Precision, recall and F1 of one set of pairs against another; 0 where undefined."""
    hits = len(found & relevant)
    precision = hits / len(found) if found else 0.0
    recall = hits / len(relevant) if relevant else 0.0
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def false_negative(anchor_labels, other_labels):
    """Step 5: whether two examples' labels at one level are both accepted and equal."""
    return anchor_labels >= 0 and other_labels >= 0 and anchor_labels == other_labels


def anchor_loss(positive, negatives, masked, temperature, kind, rescale=False):
    """Step 6 for one anchor at one level.

    positive: q.k+. negatives: [n] of q.n. masked: bool [n], the false negatives. kind:
    eliminate or attract. rescale: scale the kept negatives' sum up to the full count.
    """
    own = np.exp(positive / temperature)
    others = np.exp(np.asarray(negatives, np.float64) / temperature)
    masked = np.asarray(masked, bool)
    if kind == "eliminate":
        kept = others[~masked].sum()
        if rescale and (~masked).any():
            kept *= len(others) / (~masked).sum()
        return -np.log(own / (own + kept))
    total = own + others.sum()
    positives = [own, *others[masked]]
    return -np.mean([np.log(p / total) for p in positives])


def slopes(function, x, step=1e-5):
    """The gradient of a function at `x` [n], by central differences."""
    moves = step * np.eye(len(x))
    return np.array([(function(x + move) - function(x - move)) / (2 * step) for move in moves])


def queue_loss(
    queries, keys, queue, index, queue_index, labels, temperature, kind="eliminate", rescale=False
):
    """MoCo with a queue: the mean over anchors [B] and levels of labels [L, N].

    Slots with queue_index -1 are unfilled and take no part. An older key of the anchor
    itself is always left out, whichever the kind: it is neither negative nor label.
    """
    losses = []
    for q, key, i in zip(queries, keys, index, strict=True):
        slots = [s for s, j in enumerate(queue_index) if j >= 0 and j != i]
        negatives = [q @ queue[s] for s in slots]
        for level in labels:
            masked = [false_negative(level[i], level[queue_index[s]]) for s in slots]
            losses.append(anchor_loss(q @ key, negatives, masked, temperature, kind, rescale))
    return np.mean(losses)


def nt_xent(first, second, index, labels, temperature, kind="eliminate", rescale=False):
    """SimCLR: each of the 2B views is an anchor, its other view the positive.

    first, second: [B, D], the two views' embeddings. index: [B]. labels: [L, N]. The negatives
    are the 2 (B - 1) views of other images.
    """
    views = np.concatenate([first, second])
    owner = np.concatenate([index, index])
    batch = len(first)
    losses = []
    for a in range(2 * batch):
        partner = (a + batch) % (2 * batch)
        others = [o for o in range(2 * batch) if o not in (a, partner)]
        negatives = [views[a] @ views[o] for o in others]
        for level in labels:
            masked = [false_negative(level[owner[a]], level[owner[o]]) for o in others]
            losses.append(
                anchor_loss(
                    views[a] @ views[partner], negatives, masked, temperature, kind, rescale
                )
            )
    return np.mean(losses)
