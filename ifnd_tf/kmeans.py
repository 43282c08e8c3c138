"""k-means on the device, over all replicas: pure functions, static shapes, XLA-compilable.

Points stay where they are: every replica works through its own rows in chunks, so no
N x K matrix ever exists, and an iteration exchanges K x (D + 1) sums and a handful of
candidate rows. Everything is keyed by the examples' indices, so the result does not depend
on their order or on the number of replicas (up to float rounding).
"""

from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf import assignment
from ifnd_tf.collectives import LOCAL, Collectives, replica_collectives
from ifnd_tf.seeding import UNUSED, initial_centroids, used

__all__ = [
    "LOCAL",
    "UNUSED",
    "Collectives",
    "KMeansResult",
    "count_non_finite",
    "initial_centroids",
    "kmeans",
    "move_centroids",
    "replica_collectives",
    "used",
]

# Rows that each replica offers per iteration as new places for empty clusters. More
# clusters than this rarely empty at once; the rest wait for the next iteration.
_CANDIDATES = 128

# Points nearer to their centroid than this share of their norm coincide with it.
_COINCIDE = 1e-6


class KMeansResult(NamedTuple):
    """What `kmeans` returns; symbols as in the method (n rows here, K clusters, D wide).

    Attributes:
        centroids: float32 [K, D]; rows without a meaning hold `UNUSED` (see `used`).
        assignments: int32 [n], the nearest centroid, -1 for padding rows.
        confidence: float32 [n] in [0, 1], 0 for padding rows.
        counts: int32 [K], examples per cluster over all replicas.
        inertia: float32 [], sum of squared distances over all replicas.
        reseeded: int32 [], how many empty clusters were given a new place.
    """

    centroids: tf.Tensor
    assignments: tf.Tensor
    confidence: tf.Tensor
    counts: tf.Tensor
    inertia: tf.Tensor
    reseeded: tf.Tensor


@tf.autograph.experimental.do_not_convert
def count_non_finite(
    points: tf.Tensor, index: tf.Tensor, collectives: Collectives = LOCAL
) -> tf.Tensor:
    """How many examples have a NaN or infinite coordinate; k-means needs this to be 0.

    Args:
        points: float [n, D], this replica's rows.
        index: int32 [n], the examples' indices, -1 for padding.
        collectives: how replicas combine.

    Returns:
        int32 [], over all replicas.
    """
    finite = tf.reduce_all(tf.math.is_finite(points), axis=1)
    return collectives.sum(tf.reduce_sum(tf.cast(~finite & (index >= 0), tf.int32)))


def _worst_fitted(
    points: tf.Tensor, index: tf.Tensor, distances: tf.Tensor, count: int, collectives: Collectives
) -> tuple[tf.Tensor, tf.Tensor]:
    """The worst-fitted rows of all replicas, at most `count`: [M, D] worst first, distances [M]."""
    _, rows = tf.math.top_k(distances, min(count, distances.shape[0]))
    offered = collectives.concat(
        tf.concat([tf.gather(points, rows), tf.gather(distances, rows)[:, None]], axis=1)
    )
    ids = collectives.concat(tf.gather(index, rows))
    # Order by index first: top_k breaks ties by position, which depends on the replicas.
    offered = tf.gather(offered, tf.argsort(ids))
    worst, rows = tf.math.top_k(offered[:, -1], min(count, offered.shape[0]))
    return tf.gather(offered, rows)[:, :-1], worst


def _moved(
    points: tf.Tensor, index: tf.Tensor, centroids: tf.Tensor, collectives: Collectives
) -> tuple[tf.Tensor, tf.Tensor]:
    """One iteration on chunked rows [C, size, D]; see `move_centroids`."""
    fit = assignment.assign(points, index, centroids, None)
    points = tf.reshape(points, [-1, centroids.shape[1]])
    index = tf.reshape(index, [-1])
    num_clusters, width = centroids.shape
    counts = tf.cast(fit.counts, tf.float32)[:, None]
    moments = collectives.sum(tf.concat([fit.residuals, counts], axis=1))
    counts = moments[:, width]
    moved = centroids + moments[:, :width] / tf.maximum(counts, 1.0)[:, None]

    seeds, distances = _worst_fitted(
        points, index, fit.distances, min(num_clusters, _CANDIDATES), collectives
    )
    count = seeds.shape[0]
    apart = distances > _COINCIDE**2 * tf.reduce_sum(seeds * seeds, 1)
    empty = counts < 0.5
    rank = tf.cumsum(tf.cast(empty, tf.int32)) - 1  # The r-th empty cluster takes seed r.
    place = tf.clip_by_value(rank, 0, count - 1)
    reseed = empty & (rank < count) & tf.gather(apart, place)
    retire = empty & ~tf.gather(apart, place)
    moved = tf.where(reseed[:, None], tf.gather(seeds, place), moved)
    moved = tf.where(retire[:, None], UNUSED, moved)
    return moved, tf.reduce_sum(tf.cast(reseed, tf.int32))


def _prepared(
    points: tf.Tensor, index: tf.Tensor, centroids: tf.Tensor, chunk_size: int | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Arguments as tensors, rows cut into chunks."""
    size = min(chunk_size or assignment.default_chunk(centroids.shape[0]), points.shape[0])
    index = tf.convert_to_tensor(index, tf.int32)
    return (
        *assignment.cut(tf.convert_to_tensor(points), index, size),
        tf.convert_to_tensor(centroids, tf.float32),
    )


@tf.autograph.experimental.do_not_convert
def move_centroids(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    *,
    chunk_size: int | None = None,
    collectives: Collectives = LOCAL,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One iteration: centroids move to their members' means, empty clusters to a new place.

    What `kmeans` repeats; for callers that drive the iterations from the host. Empty
    clusters take the worst-fitted points. A cluster that is empty while every point
    coincides with its centroid (K exceeds the distinct points) becomes unused.

    Args:
        points, index, centroids, chunk_size, collectives: as for `kmeans`.

    Returns:
        Centroids float32 [K, D], equal on all replicas, and how many were re-seeded, int32 [].
    """
    return _moved(*_prepared(points, index, centroids, chunk_size), collectives)


@tf.autograph.experimental.do_not_convert
def kmeans(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    *,
    num_iterations: int,
    confidence_temperature: float | tf.Tensor,
    chunk_size: int | None = None,
    collectives: Collectives = LOCAL,
) -> KMeansResult:
    """Lloyd's algorithm from given centroids, then one pass that assigns and scores.

    Euclidean distances (Lloyd, 1982). Empty clusters move to the worst-fitted points.
    Confidence is the method's eq. 3: softmax over the cosine to all used centroids, at the
    own one: exp(cos(e_i, c_y) / tau_c) / sum_k exp(cos(e_i, c_k) / tau_c).

    Args:
        points: float [n, D], this replica's rows; n and D static.
        index: int32 [n], the examples' indices, unique over all replicas; -1 marks padding
            rows, which may hold anything.
        centroids: float32 [K, D] to start from, equal on all replicas; see
            `initial_centroids`, or the last refresh's for a warm start.
        num_iterations: updates of the centroids; >= 0. 0 only assigns.
        confidence_temperature: tau_c > 0.
        chunk_size: rows at a time; the largest intermediate is [chunk_size, K]. None: about
            8 MB of float32 scores, which suits a processor's last cache.
        collectives: how replicas combine; `replica_collectives()` inside `strategy.run`.

    Returns:
        `KMeansResult`; assignments, confidence, counts and inertia belong to the centroids
        returned. Inertia never rises with `num_iterations`.
    """
    n = points.shape[0]
    points, index, centroids = _prepared(points, index, centroids, chunk_size)

    def iterate(i: Any, centroids: tf.Tensor, reseeded: tf.Tensor) -> tuple:
        centroids, more = _moved(points, index, centroids, collectives)
        return i + 1, centroids, reseeded + more

    state: tuple = (tf.constant(0), centroids, tf.constant(0))
    if collectives.loops:
        state = tf.while_loop(
            lambda i, *_: i < num_iterations, iterate, state, maximum_iterations=num_iterations
        )
    else:  # Slow to trace beyond a few: `move_centroids`, driven from the host, is not.
        for _ in range(num_iterations):
            state = iterate(*state)
    _, centroids, reseeded = state
    fit = assignment.assign(points, index, centroids, confidence_temperature)
    totals = collectives.sum(
        tf.concat([tf.cast(fit.counts, tf.float32), [tf.reduce_sum(fit.distances)]], axis=0)
    )
    return KMeansResult(
        centroids=centroids,
        assignments=fit.assignments[:n],
        confidence=fit.confidence[:n],
        counts=tf.cast(totals[:-1], tf.int32),
        inertia=totals[-1],
        reseeded=reseeded,
    )
