"""k-means on the device, over all replicas: pure functions, static shapes, XLA-compilable.

Points stay where they are: every replica works through its own rows in chunks, so no
N x K matrix ever exists, and an iteration exchanges K x (D + 1) sums and a handful of
candidate rows. Everything is keyed by the examples' indices, so the result does not depend
on their order or on the number of replicas (up to float rounding).
"""

from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.clustering.initialization import sample, spread_centroids
from ifnd_tf.clustering.lloyd import RELAXATION, TOLERANCE, iterate_lloyd, members_per_cluster
from ifnd_tf.clustering.nearest import nearest_centroids
from ifnd_tf.distribute.replicas import LOCAL, Collectives

# Examples for each cluster in the sample that a cold start clusters first.
_SAMPLED = 8


class KMeansResult(NamedTuple):
    """The result of `kmeans`; symbols as in the method (n rows here, K clusters, D wide).

    Attributes:
        centroids: float32 [K, D]; those of unused clusters hold `UNUSED` (see `used`).
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
def initial_centroids(
    points: tf.Tensor,
    index: tf.Tensor,
    *,
    num_clusters: int,
    seed: int | tf.Tensor,
    sample_size: int | None = None,
    num_iterations: int = 5,
    collectives: Collectives = LOCAL,
) -> tf.Tensor:
    """k-means of a sample of the examples: where k-means of all of them starts.

    The sample and all draws follow from the seed and the examples' indices, so the choice does
    not depend on order or on the number of replicas. Every replica clusters the whole sample by
    itself, without communication.

    Args:
        points: float [n, D], this replica's rows; n and D static.
        index: int32 [n], the examples' indices, -1 for padding rows.
        num_clusters: K >= 1.
        seed: integer.
        sample_size: examples that every replica gathers to choose from, at most; None:
            max(`_SAMPLED` K, 4096).
        num_iterations: of Lloyd's algorithm on the sample after k-means++, at most; more than a
            few fit the sample rather than all examples.
        collectives: how replicas combine.

    Returns:
        float32 [K, D], equal on all replicas; rows beyond the number of distinct points
        are unused (`UNUSED`).
    """
    size = sample_size or max(_SAMPLED * num_clusters, 4096)
    index = tf.convert_to_tensor(index, tf.int32)
    points, index = sample(points, index, size, seed, collectives)
    start = spread_centroids(points, index, num_clusters, seed)
    return iterate_lloyd(points, index, start, num_iterations=num_iterations)[0]


@tf.autograph.experimental.do_not_convert
def kmeans(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    *,
    num_iterations: int,
    confidence_temperature: float | tf.Tensor,
    tolerance: float = TOLERANCE,
    relaxation: float = RELAXATION,
    chunk_size: int | None = None,
    collectives: Collectives = LOCAL,
) -> KMeansResult:
    """Lloyd's algorithm from given centroids, then one pass that assigns and scores.

    Euclidean distances (Lloyd, 1982). Empty clusters move to the worst-fitted points.
    Confidence is the method's eq. 3, the softmax over the cosines to all used centroids, taken at
    the assigned one: exp(cos(e_i, c_y) / tau_c) / sum_k exp(cos(e_i, c_k) / tau_c).

    Args:
        points: float [n, D], this replica's rows; n and D static.
        index: int32 [n], the examples' indices, unique over all replicas; -1 marks padding
            rows, which may hold anything.
        centroids: float32 [K, D] to start from, equal on all replicas; see
            `initial_centroids`, or the last refresh's for a warm start.
        num_iterations: updates of the centroids, at most; >= 0. 0 only assigns.
        confidence_temperature: tau_c > 0.
        tolerance: iterations end when moving the centroids lowers the inertia by no more than
            this share of it; 0 continues until nothing moves. Where collectives cannot loop, all
            iterations are done.
        relaxation: in (0, 2); how far centroids move, where 1 is to their members' mean. Up to 2 a
            farther move still lowers the inertia, and it anticipates the next assignments: the
            default saves a quarter of the iterations and ends lower (docs/performance.md).
        chunk_size: rows at a time; the largest intermediate is [chunk_size, K]. None: 4 to
            8 MB of float32 scores.
        collectives: how replicas combine; `replica_collectives()` inside `strategy.run`.

    Returns:
        `KMeansResult`; assignments, confidence, counts and inertia belong to the centroids
        returned. Inertia never rises with `num_iterations`.
    """
    points = tf.convert_to_tensor(points)
    index = tf.convert_to_tensor(index, tf.int32)
    centroids = tf.convert_to_tensor(centroids, tf.float32)
    centroids, reseeded = iterate_lloyd(
        points,
        index,
        centroids,
        num_iterations=num_iterations,
        tolerance=tolerance,
        relaxation=relaxation,
        chunk_size=chunk_size,
        collectives=collectives,
    )
    nearest = nearest_centroids(points, index, centroids, confidence_temperature, chunk_size)
    counts = tf.cast(members_per_cluster(nearest.assignments, centroids.shape[0]), tf.float32)
    totals = collectives.sum(tf.concat([counts, [tf.reduce_sum(nearest.distances)]], axis=0))
    counts, inertia = tf.cast(totals[:-1], tf.int32), totals[-1]
    return KMeansResult(
        centroids, nearest.assignments, nearest.confidence, counts, inertia, reseeded
    )
