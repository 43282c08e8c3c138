"""Lloyd's iterations (1982): rows go to the nearest centroid, centroids to their rows' mean.

An iteration exchanges K x (D + 1) sums and a handful of candidate rows between the replicas.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.clustering.initialization import UNUSED
from ifnd_tf.clustering.nearest import nearest_centroids
from ifnd_tf.distribute.replicas import LOCAL, Collectives, on_cpu

# An iteration whose moves lower the inertia by less than this share is not worth its time.
TOLERANCE = 5e-4

# How far centroids move; see `relaxation` of `kmeans`.
RELAXATION = 1.7

# Rows that each replica offers per iteration as new places for empty clusters. More
# clusters than this rarely empty at once; the rest wait for the next iteration.
_CANDIDATES = 128

# Points nearer to their centroid than this share of their norm coincide with it.
_COINCIDE = 1e-6


class Moved(NamedTuple):
    """The result of `move_centroids`.

    Attributes:
        centroids: float32 [K, D], equal on all replicas.
        reseeded: int32 [], how many empty clusters were given a new place.
        gain: float32 [], the share of the inertia that a move of the centroids to their members'
            means removes.
    """

    centroids: tf.Tensor
    reseeded: tf.Tensor
    gain: tf.Tensor

    def settled(self, tolerance: float) -> tf.Tensor:
        """Whether another iteration would be of little use: bool []."""
        return (self.gain <= tolerance) & (self.reseeded == 0)


def _worst_fitted(
    points: tf.Tensor, index: tf.Tensor, distances: tf.Tensor, count: int, collectives: Collectives
) -> tuple[tf.Tensor, tf.Tensor]:
    """The worst-fitted rows of all replicas, at most `count`: [M, D] worst first, distances [M]."""
    _, rows = tf.math.top_k(distances, min(count, distances.shape[0]))
    own = [tf.cast(tf.gather(points, rows), tf.float32), tf.gather(distances, rows)[:, None]]
    offered = collectives.concat(tf.concat(own, axis=1))
    ids = collectives.concat(tf.gather(index, rows))
    # Order by index first: top_k breaks ties by position, which depends on the replicas.
    offered = tf.gather(offered, tf.argsort(ids))
    worst, rows = tf.math.top_k(offered[:, -1], min(count, offered.shape[0]))
    return tf.gather(offered, rows)[:, :-1], worst


def _sums(points: tf.Tensor, labels: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """float32 [K, D], the sum of each label's rows; negative labels are dropped."""
    return tf.math.unsorted_segment_sum(tf.cast(points, tf.float32), labels, num_clusters)


# On a CPU XLA adds the rows in a fifth of the time of TensorFlow's own operation.
_compiled_sums = tf.function(_sums, jit_compile=True, autograph=False)


def members_per_cluster(assignments: tf.Tensor, num_clusters: int) -> tf.Tensor:
    """int32 [K], this replica's rows in each cluster."""
    return tf.math.unsorted_segment_sum(tf.ones_like(assignments), assignments, num_clusters)


@tf.autograph.experimental.do_not_convert
def move_centroids(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    *,
    relaxation: float = RELAXATION,
    chunk_size: int | None = None,
    collectives: Collectives = LOCAL,
) -> Moved:
    """One iteration: centroids move towards their members' means, empty clusters to a new place.

    The step of `kmeans`, public for callers that repeat it from the host. Empty clusters take the
    worst-fitted points. A cluster that is empty while every point coincides with its centroid (K
    exceeds the distinct points) becomes unused.

    Args:
        points, index, centroids, relaxation, chunk_size, collectives: as for `kmeans`.
    """
    index = tf.convert_to_tensor(index, tf.int32)
    nearest = nearest_centroids(points, index, centroids, None, chunk_size)
    num_clusters, width = centroids.shape
    sum_members = _compiled_sums if on_cpu() else _sums
    sums = sum_members(points, nearest.assignments, num_clusters)
    counts = members_per_cluster(nearest.assignments, num_clusters)
    moments = collectives.sum(tf.concat([sums, tf.cast(counts, tf.float32)[:, None]], axis=1))
    counts = moments[:, width]
    empty = counts < 0.5
    step = moments[:, :width] / tf.maximum(counts, 1.0)[:, None] - centroids
    step = tf.where(empty[:, None], 0.0, step)  # that of an unused centroid overflows
    inertia = collectives.sum(tf.reduce_sum(nearest.distances))
    # Huygens' theorem: the inertia that moving each centroid to its members' mean removes.
    gain = tf.reduce_sum(counts * tf.reduce_sum(step * step, axis=1))
    seeds, distances = _worst_fitted(
        points, index, nearest.distances, min(num_clusters, _CANDIDATES), collectives
    )
    moved, reseeded = _fill_empty(centroids + relaxation * step, empty, seeds, distances)
    return Moved(moved, reseeded, gain / tf.maximum(inertia, 1e-30))


def _fill_empty(
    centroids: tf.Tensor, empty: tf.Tensor, seeds: tf.Tensor, distances: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the r-th empty cluster seed r, or retires it if that seed coincides with its centroid.

    Returns:
        The centroids, and how many were given a new place.
    """
    count = seeds.shape[0]
    apart = distances > _COINCIDE**2 * tf.reduce_sum(seeds * seeds, 1)
    rank = tf.cumsum(tf.cast(empty, tf.int32)) - 1
    place = tf.clip_by_value(rank, 0, count - 1)
    reseed = empty & (rank < count) & tf.gather(apart, place)
    retire = empty & ~tf.gather(apart, place)
    centroids = tf.where(reseed[:, None], tf.gather(seeds, place), centroids)
    centroids = tf.where(retire[:, None], UNUSED, centroids)
    return centroids, tf.reduce_sum(tf.cast(reseed, tf.int32))


def iterate_lloyd(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    *,
    num_iterations: int,
    tolerance: float = TOLERANCE,
    collectives: Collectives = LOCAL,
    **options: Any,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Centroids [K, D] after the iterations, and how many were re-seeded; see `kmeans`.

    Args:
        points, index, centroids, num_iterations, tolerance, collectives: as for `kmeans`.
        **options: of `move_centroids`.
    """

    def iterate(_: tf.Tensor, centroids: tf.Tensor, reseeded: tf.Tensor) -> tuple:
        moved = move_centroids(points, index, centroids, collectives=collectives, **options)
        return ~moved.settled(tolerance), moved.centroids, reseeded + moved.reseeded

    state: tuple = (tf.constant(True), centroids, tf.constant(0))
    if collectives.loops:
        state = tf.while_loop(
            lambda going, *_: going, iterate, state, maximum_iterations=num_iterations
        )
    else:  # More than a few are slow to trace; `move_centroids`, repeated from the host, is not.
        for _ in range(num_iterations):
            state = iterate(*state)
    return state[1], state[2]
