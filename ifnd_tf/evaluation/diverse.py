"""A diverse subset of a data set: greedy k-centre (Gonzalez 1985), as in core-set selection."""

import numpy as np

from ifnd_tf.run.progress import Count, uncounted


def k_center(
    points: np.ndarray, count: int, progress: Count = uncounted
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the point nearest the mean, then repeatedly the point farthest from all chosen ones.

    The greatest distance of any point to its nearest chosen one is at most twice the least that
    `count` points can reach.

    Args:
        points: float `[N, D]`.
        count: of points to choose, at most N.
        progress: called with the number of points that are chosen and `count`.

    Returns:
        int `[count]`: rows in the order of choice; float `[count]`: the distance of each to the
        nearest chosen before it, infinite for the first.
    """
    points = points.astype(np.float32, copy=False)
    norms = np.square(points).sum(1)
    chosen, radii = np.zeros(count, int), np.full(count, np.inf)
    nearest = np.full(len(points), np.inf, np.float32)
    row = int(np.argmin(_squared_distances(points, norms, points.mean(0))))
    for number in range(count):
        chosen[number], radii[number] = row, np.sqrt(nearest[row])
        np.minimum(nearest, _squared_distances(points, norms, points[row]), out=nearest)
        nearest[chosen[: number + 1]] = -1  # never again, even if all other distances are 0
        row = int(np.argmax(nearest))
        progress(number + 1, count)
    return chosen, radii


def _squared_distances(points: np.ndarray, norms: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.maximum(norms - 2 * (points @ centre) + centre @ centre, 0)
