"""From clusters to pseudo-labels, and how well they find true pairs: pure NumPy on [N] vectors.

An example's pseudo-label is its cluster, or -1 where the assignment was not accepted. -1
never equals anything, not even another -1. Symbols (N, L, K) are those of the method.
"""

import math
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError

SCOPES = ("global", "cluster")

# Shares of N that "auto" clusters into, and the fewest examples per cluster it aims at.
_AUTO_SHARES = (0.002, 0.004, 0.008)
_AUTO_RANGE = (10, 25_000)


def _top_share(confidence: np.ndarray, rate: float) -> np.ndarray:
    """Marks the round(rate * n) largest of [n]; ties go to the earlier entry."""
    # Half up, not Python's half to even: 0.5 of 5 is 3. The nudge undoes
    # roundings such as 0.145 * 100 = 14.499999999999998.
    count = math.floor(rate * len(confidence) + 0.5 + 1e-9)
    # Equal embeddings (duplicates, a network that has learned little) have equal confidences but
    # for their last bits, which depend on the device and the number of replicas; 13 bits do not.
    mantissa, exponent = np.frexp(confidence)
    ranked = np.ldexp(np.round(mantissa * (1 << 13)), exponent)
    chosen = np.zeros(len(confidence), bool)
    chosen[np.argsort(-ranked, kind="stable")[:count]] = True
    return chosen


def accept(
    confidence: np.ndarray, assignments: np.ndarray, rate: float, scope: str = "global"
) -> np.ndarray:
    """Chooses the most confident share of the assignments (method, step 4).

    Args:
        confidence: float [N], higher is surer; finite where assigned.
        assignments: int [N], cluster of each example, -1 where there is none.
        rate: share r to accept, in [0, 1], of the examples that have an assignment.
        scope: "global" ranks all examples together, so that tight clusters come first;
            "cluster" takes the share within each cluster.

    Returns:
        bool [N]. Exactly round(r * n) of n are accepted (half rounds up; per cluster with
        "cluster"): none at 0, all at 1. Ties, which are confidences that agree to 13 bits, go to
        the lower index.

    Raises:
        UserError: the rate is outside [0, 1] or the scope is unknown.
    """
    confidence, assignments = np.asarray(confidence), np.asarray(assignments)
    if not 0.0 <= rate <= 1.0:
        raise UserError(f"Expected an acceptance rate in [0, 1]. Received: {rate}.")
    if scope not in SCOPES:
        raise UserError(f"Expected acceptance_scope to be one of {SCOPES}. Received: {scope!r}.")
    accepted = np.zeros(len(assignments), bool)
    assigned = np.flatnonzero(assignments >= 0)
    if scope == "global":
        accepted[assigned] = _top_share(confidence[assigned], rate)
        return accepted
    # One stable sort groups the clusters; a scan per cluster would cost N x K.
    order = assigned[np.argsort(assignments[assigned], kind="stable")]
    borders = np.flatnonzero(np.diff(assignments[order])) + 1
    for members in np.split(order, borders):
        accepted[members] = _top_share(confidence[members], rate)
    return accepted


def assign(assignments: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Pseudo-labels int32, shaped as `assignments`: the cluster where accepted, else -1."""
    return np.where(accepted, assignments, -1).astype(np.int32)


def cluster_sizes(assignments: np.ndarray, num_clusters: int) -> np.ndarray:
    """Examples in each cluster: int64 [K]; -1 is not counted."""
    assignments = np.asarray(assignments)
    return np.bincount(assignments[assignments >= 0], minlength=num_clusters)


def count_pairs(counts: np.ndarray) -> float:
    """How many unordered pairs groups of these sizes hold."""
    # Python integers do not overflow; int64 would for one group of 4e9 examples.
    return float(int((counts.astype(np.int64) * (counts.astype(np.int64) - 1) // 2).sum()))


def group_sizes(*columns: np.ndarray) -> np.ndarray:
    """Sizes of the groups of examples that agree in every column [N]; sparse, never K x C."""
    combined = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        # Renumbering after each column keeps the code below N * max(K), far from overflow.
        combined = np.unique(combined * len(values) + codes, return_inverse=True)[1]
    return np.bincount(combined) if len(combined) else np.zeros(0, np.int64)


def _detected(levels: np.ndarray, truth: np.ndarray | None) -> float:
    """Pairs that share an accepted label at one level or more, by inclusion and exclusion."""
    total = 0.0
    for subset in range(1, 1 << len(levels)):
        rows = [level for bit, level in enumerate(levels) if subset >> bit & 1]
        mask = np.all([row >= 0 for row in rows], axis=0)
        columns = [row[mask] for row in rows] + ([] if truth is None else [truth[mask]])
        total += (-1) ** (len(rows) + 1) * count_pairs(group_sizes(*columns))
    return total


def _scores(found: float, detected: float, relevant: float) -> dict[str, float]:
    """Precision, recall and their harmonic mean; 0 where undefined, as in scikit-learn."""
    return {
        "precision": found / detected if detected else 0.0,
        "recall": found / relevant if relevant else 0.0,
        "f1": 2.0 * found / (detected + relevant) if detected + relevant else 0.0,
    }


def _entropy(sizes: np.ndarray) -> float:
    """Entropy in nats of a random member's group, for groups of these sizes."""
    shares = sizes / sizes.sum()
    return float(-np.sum(shares * np.log(shares)))


def _agreement(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """NMI (arithmetic mean) and purity of the accepted examples; 0 when there are none."""
    if not len(labels):
        return {"nmi": 0.0, "purity": 0.0}
    classes = int(truth.max()) + 1
    cells, counts = np.unique(labels.astype(np.int64) * classes + truth, return_counts=True)
    largest = np.zeros(int(labels.max()) + 1, np.int64)
    np.maximum.at(largest, cells // classes, counts)
    marginal = _entropy(group_sizes(labels)) + _entropy(group_sizes(truth))
    mutual = marginal - _entropy(counts)
    return {
        # Two single groups agree wholly; below rounding error there is nothing in common.
        "nmi": 1.0 if marginal == 0.0 else 2.0 * mutual / marginal if mutual > 1e-12 else 0.0,
        "purity": float(largest.sum() / len(labels)),
    }


def detection_statistics(pseudo_labels: np.ndarray, true_labels: np.ndarray) -> dict[str, Any]:
    """How well equal pseudo-labels find pairs of the same class.

    A pair is detected at a level when both labels are accepted and equal; it is relevant
    when both true labels are known and equal. Examples of unknown class are left out.

    Args:
        pseudo_labels: int [L, N], -1 not accepted.
        true_labels: int [N], -1 unknown.

    Returns:
        One flat dict of floats in [0, 1]. "precision", "recall" and "f1" over pairs, "nmi"
        and "purity" of the accepted examples, "accepted" (their share): means over levels.
        Each also as "level_<name>", a list of L. "union_precision", "union_recall",
        "union_f1": pairs detected at one level or more; "union_accepted": examples accepted
        at one or more. Costs N log N per level and, for the union, per subset of levels.

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
    relevant = count_pairs(group_sizes(true_labels))
    levels = []
    for labels in pseudo_labels:
        accepted = labels >= 0
        detected = _detected(labels[None], None)
        found = _detected(labels[None], true_labels)
        levels.append(
            _scores(found, detected, relevant)
            | _agreement(labels[accepted], true_labels[accepted])
            | {"accepted": float(accepted.mean())}
        )
    result: dict[str, Any] = {}
    for name in levels[0]:
        result[f"level_{name}"] = [level[name] for level in levels]
        result[name] = float(np.mean(result[f"level_{name}"]))
    union = _scores(
        _detected(pseudo_labels, true_labels), _detected(pseudo_labels, None), relevant
    ) | {"accepted": float((pseudo_labels >= 0).any(axis=0).mean())}
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
        common = count_pairs(group_sizes(was[both], now[both]))
        union = _detected(was[None], None) + _detected(now[None], None) - common
        changes.append(1.0 - common / union if union else 0.0)
    return float(np.mean(changes))


def _resolve_one(item: str, num_examples: int, spec: str) -> int:
    try:
        if item.endswith("%"):
            return round(float(item[:-1]) / 100.0 * num_examples)
        return int(item)
    except (ValueError, OverflowError):
        raise UserError(
            f"Expected num_clusters to be whole numbers such as 10,20,40, shares of N such as "
            f"1%,2%, or auto. Received: {item!r} in {spec!r}."
        ) from None


def resolve_num_clusters(spec: str, num_examples: int) -> list[int]:
    """Turns the setting `num_clusters` into one K per level, ascending.

    "auto" takes 0.2, 0.4 and 0.8% of N, so 500, 250 and 125 examples per cluster, with the
    smallest K kept within 10 and 25,000 (PCL's smallest on ImageNet) and at most N / 8.

    Args:
        spec: comma list of whole numbers or shares of N ("10,20,40", "1%,2%"), or "auto".
        num_examples: N.

    Returns:
        [L] numbers of clusters, each in [2, N].

    Raises:
        UserError: the list does not parse, is not ascending, or a K is below 2 or above N.
    """
    spec = spec.strip()
    if spec == "auto":
        smallest = min(max(round(_AUTO_SHARES[0] * num_examples), _AUTO_RANGE[0]), _AUTO_RANGE[1])
        smallest = min(smallest, num_examples // 8)
        result = [round(smallest * share / _AUTO_SHARES[0]) for share in _AUTO_SHARES]
    else:
        result = [_resolve_one(item.strip(), num_examples, spec) for item in spec.split(",")]
    for count in result:
        if count < 2:
            raise UserError(
                f"--num_clusters: expected every K to be 2 or more, since one cluster would make "
                f"every pair a false negative. Received: K={count} from {spec!r} with "
                f"N={num_examples}."
            )
        if count > num_examples:
            raise UserError(
                f"--num_clusters: expected every K to be at most the number of examples "
                f"N={num_examples}. Received: K={count} from {spec!r}; ask for fewer, or for auto."
            )
    if sorted(set(result)) != result:
        raise UserError(
            f"--num_clusters: expected numbers that ascend. Received: {result} from {spec!r}."
        )
    return result
