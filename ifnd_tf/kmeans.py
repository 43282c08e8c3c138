"""k-means on the device, over all replicas: pure functions, static shapes, XLA-compilable.

Points stay where they are: every replica works through its own rows in chunks, so no
N x K matrix ever exists, and an iteration exchanges K x (D + 1) sums and a handful of
candidate rows. Everything is keyed by the examples' indices, so the result does not depend
on their order or on the number of replicas (up to float rounding).
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

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


class _Fit(NamedTuple):
    """One pass over a replica's rows: sums [K, D] of residuals, counts [K], the rest [n]."""

    residuals: tf.Tensor
    counts: tf.Tensor
    assignments: tf.Tensor
    distances: tf.Tensor
    confidence: tf.Tensor


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


def _default_chunk(num_clusters: int) -> int:
    """Rows per chunk: scores of about 2 MB stay in a core's cache, and a tile is full."""
    return max(256, min(4096, (1 << 19) // num_clusters // 256 * 256))


def _chunked(points: tf.Tensor, index: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts rows into [C, size, D] and [C, size], padding with index -1 and zero rows."""
    n, width = points.shape
    rows = math.ceil(n / size) * size
    # Padding rows may hold anything, NaN included, so they are replaced, not multiplied by 0.
    points = tf.where((index >= 0)[:, None], tf.cast(points, tf.float32), 0.0)
    points = tf.pad(points, [[0, rows - n], [0, 0]])
    index = tf.pad(index, [[0, rows - n]], constant_values=-1)
    return tf.reshape(points, [-1, size, width]), tf.reshape(index, [-1, size])


def _log_share(
    dots: tf.Tensor,
    points: tf.Tensor,
    centroids: tf.Tensor,
    valid: tf.Tensor,
    assignments: tf.Tensor,
    temperature: float | tf.Tensor,
) -> tf.Tensor:
    """Log of the confidence [n] (method, eq. 3) from the products [n, K] already computed."""
    row = tf.math.rsqrt(tf.maximum(tf.reduce_sum(points * points, 1), 1e-30)) / temperature
    column = tf.math.rsqrt(tf.maximum(tf.reduce_sum(centroids * centroids, 1), 1e-30))
    logits = dots * row[:, None] * column + tf.where(valid, 0.0, -math.inf)
    own = tf.gather(logits, assignments, axis=1, batch_dims=1)
    return own - tf.reduce_logsumexp(logits, axis=1)


def _fit(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    temperature: float | tf.Tensor | None,
) -> _Fit:
    """Assigns every row of [C, size, D] to its nearest used centroid, chunk by chunk."""
    num_chunks, size, width = points.shape
    num_clusters = centroids.shape[0]
    valid = used(centroids)
    centroids = tf.where(valid[:, None], centroids, 0.0)
    transposed = tf.transpose(centroids)
    # argmin |x - c|^2 = argmax x.c - |c|^2 / 2; -inf keeps unused rows from winning.
    bias = tf.where(valid, -0.5 * tf.reduce_sum(centroids * centroids, 1), -math.inf)

    def array(dtype: tf.DType) -> tf.TensorArray:
        return tf.TensorArray(dtype, size=num_chunks, element_shape=[size])

    def body(i: tf.Tensor, residuals: tf.Tensor, counts: tf.Tensor, *out: Any) -> tuple:
        x, real = points[i], index[i] >= 0
        dots = tf.matmul(x, transposed)
        own = tf.argmax(tf.nn.bias_add(dots, bias), axis=1, output_type=tf.int32)
        # Distances are taken as |x - c|^2, not from the scores, whose cancellation would
        # drown tight clusters. Residuals summed instead of points keep float32 sums exact.
        residual = x - tf.gather(centroids, own)
        labels = tf.where(real, own, -1)  # Negative segments are dropped from the sums.
        residuals += tf.math.unsorted_segment_sum(residual, labels, num_clusters)
        counts += tf.math.unsorted_segment_sum(tf.ones_like(labels), labels, num_clusters)
        distances = tf.where(real, tf.reduce_sum(residual * residual, 1), 0.0)
        values = [labels, distances]
        if temperature is not None:
            share = tf.exp(_log_share(dots, x, centroids, valid, own, temperature))
            values.append(tf.where(real, tf.minimum(share, 1.0), 0.0))
        written = [into.write(i, value) for into, value in zip(out, values, strict=True)]
        return (i + 1, residuals, counts, *written)

    arrays = [array(tf.int32), array(tf.float32)]
    if temperature is not None:
        arrays.append(array(tf.float32))
    start = (tf.constant(0), tf.zeros([num_clusters, width]), tf.zeros([num_clusters], tf.int32))
    _, residuals, counts, *out = tf.while_loop(
        lambda i, *_: i < num_chunks, body, (*start, *arrays), maximum_iterations=num_chunks
    )
    flat = [tf.reshape(a.stack(), [num_chunks * size]) for a in out]
    return _Fit(residuals, counts, *flat[:2], confidence=flat[-1])


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


def _update(
    points: tf.Tensor, index: tf.Tensor, centroids: tf.Tensor, fit: _Fit, collectives: Collectives
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves centroids to their members' means and gives empty clusters a new place.

    Returns the centroids [K, D] and how many were re-seeded. A cluster that is empty while
    every point coincides with its centroid (K exceeds the distinct points) becomes unused.
    """
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
            2 MB of float32 scores, which suits a core's cache.
        collectives: how replicas combine; `replica_collectives()` inside `strategy.run`.

    Returns:
        `KMeansResult`; assignments, confidence, counts and inertia belong to the centroids
        returned. Inertia never rises with `num_iterations`.
    """
    n, num_clusters = points.shape[0], centroids.shape[0]
    size = min(chunk_size or _default_chunk(num_clusters), n)
    index = tf.convert_to_tensor(index, tf.int32)
    chunks, chunk_index = _chunked(tf.convert_to_tensor(points), index, size)
    flat = tf.reshape(chunks, [-1, chunks.shape[2]])
    flat_index = tf.reshape(chunk_index, [-1])

    def iterate(i: Any, centroids: tf.Tensor, reseeded: tf.Tensor) -> tuple:
        fit = _fit(chunks, chunk_index, centroids, None)
        centroids, more = _update(flat, flat_index, centroids, fit, collectives)
        return i + 1, centroids, reseeded + more

    state: tuple = (tf.constant(0), tf.convert_to_tensor(centroids, tf.float32), tf.constant(0))
    if collectives.loops:
        state = tf.while_loop(
            lambda i, *_: i < num_iterations, iterate, state, maximum_iterations=num_iterations
        )
    else:
        for _ in range(num_iterations):
            state = iterate(*state)
    _, centroids, reseeded = state
    fit = _fit(chunks, chunk_index, centroids, confidence_temperature)
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
