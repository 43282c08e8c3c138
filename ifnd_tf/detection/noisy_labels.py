"""Labels whose pairs have a chosen precision and recall, made from true ones: pure NumPy."""

from collections.abc import Callable

import numpy as np

from ifnd_tf.detection.metrics import detection_statistics
from ifnd_tf.errors import UserError

_HALVINGS = 30


def noisy_labels(truth: np.ndarray, precision: float, recall: float, seed: int = 0) -> np.ndarray:
    """Labels [N] of which equal pairs are right and found as often as asked, -1 where left out.

    Some classes are merged if the recall is above the precision; then so many examples get the
    label of a random other example that the precision is met; then so many are left out that
    the recall is. Errors are those of examples, so pairs are wrong together, as with clusters.

    Args:
        truth: int [N], -1 unknown; those stay -1.
        precision: of the pairs, in (0, 1].
        recall: of the pairs, in (0, 1].
        seed: of the draws.

    Raises:
        UserError: if no labels have these, with the precision or recall that is near.
    """
    random = np.random.default_rng(seed)
    known = np.flatnonzero(truth >= 0)
    classes = np.unique(truth[known], return_inverse=True)[1]
    wrong, left_out = random.random([2, len(known)])
    drawn = random.permutation(len(known))

    def confused(groups: int, share: float) -> np.ndarray:
        merged = classes % groups
        return np.where(wrong < share, merged[drawn], merged)

    def scores(labels: np.ndarray) -> tuple[float, float]:
        found = detection_statistics(labels, classes)
        return found["precision"], found["recall"]

    best = 0.0
    for groups in range(int(classes.max()) + 1, 0, -1):
        if scores(confused(groups, 0.0))[0] < precision - 1e-9:
            break
        share = _largest(lambda x: scores(confused(groups, x))[0] >= precision)  # noqa: B023
        labels = confused(groups, share)
        reached = scores(labels)
        if reached[0] > precision + 0.02:
            break  # even labels at random are more precise
        best = max(best, reached[1])
        if reached[1] >= recall - 1e-9:
            accepted = 1.0 - _largest(
                lambda x: scores(np.where(left_out < x, -1, labels))[1] >= recall  # noqa: B023
            )
            result = np.full(len(truth), -1, np.int32)
            result[known] = np.where(left_out < 1.0 - accepted, -1, labels)
            return result
    raise UserError(
        f"--oracle_recall: expected at most {best:.2f} at --oracle_precision={precision}, or a "
        f"precision nearer to 1. Received: {recall}; labels of {int(classes.max()) + 1} classes "
        "have no such pairs."
    )


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest share up to which `holds`, which is true of 0, by halving."""
    low, high = 0.0, 1.0
    if holds(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
