"""From clusters to pseudo-labels: pure NumPy on [N] vectors.

An example's pseudo-label is its cluster, or -1 where the assignment was not accepted. -1
never equals anything, not even another -1. Symbols (N, L, K) are those of the method.
"""

import math

import numpy as np

from ifnd_tf.errors import UserError

SCOPES = ("global", "cluster")


def accept(
    confidence: np.ndarray, assignments: np.ndarray, rate: float, scope: str = "global"
) -> np.ndarray:
    """Pseudo-labels: the most confident share of the assignments (method, step 4).

    Args:
        confidence: float [N], higher is more confident; finite where assigned.
        assignments: int [N], cluster of each example, -1 where there is none.
        rate: share r to accept, in [0, 1], of the examples that have an assignment.
        scope: "global" ranks all examples together, so that tight clusters come first;
            "cluster" takes the share within each cluster.

    Returns:
        int32 [N], the cluster where accepted, else -1. Exactly round(r * n) of n are accepted
        (half rounds up; per cluster with "cluster"): none at 0, all at 1. Of confidences that
        agree to 13 bits the lower index comes first.

    Raises:
        UserError: the rate is outside [0, 1] or the scope is unknown.
    """
    confidence, assignments = np.asarray(confidence), np.asarray(assignments)
    if not 0.0 <= rate <= 1.0:
        raise UserError(f"Expected an acceptance rate in [0, 1]. Received: {rate}.")
    if scope not in SCOPES:
        raise UserError(f"--acceptance_scope: expected one of {SCOPES}. Received: {scope!r}.")
    assigned = np.flatnonzero(assignments >= 0)
    groups = [assigned]
    if scope == "cluster":
        # One stable sort groups the clusters; a scan per cluster would cost N x K.
        order = assigned[np.argsort(assignments[assigned], kind="stable")]
        groups = np.split(order, np.flatnonzero(np.diff(assignments[order])) + 1)
    labels = np.full(len(assignments), -1, np.int32)
    for members in groups:
        accepted = members[_most_confident(confidence[members], rate)]
        labels[accepted] = assignments[accepted]
    return labels


def accepted_count(rate: float, assigned: int) -> int:
    """The number of assignments that are accepted at a rate."""
    # Half up, not Python's half to even: 0.5 of 5 is 3. The nudge undoes
    # roundings such as 0.145 * 100 = 14.499999999999998.
    return math.floor(rate * assigned + 0.5 + 1e-9)


def _most_confident(confidence: np.ndarray, rate: float) -> np.ndarray:
    """Places of the round(rate * n) largest of [n]; ties go to the earlier entry."""
    count = accepted_count(rate, len(confidence))
    # Equal embeddings (duplicates, a network that has learned little) have equal confidences but
    # for their last bits, which depend on the device and the number of replicas; 13 bits do not.
    mantissa, exponent = np.frexp(confidence)
    ranked = np.ldexp(np.round(mantissa * (1 << 13)), exponent)
    return np.argsort(-ranked, kind="stable")[:count]
