"""Every row to its nearest centroid, chunk by chunk: the pass that k-means repeats."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.seeding import used


class Fit(NamedTuple):
    """One pass over a replica's rows: sums [K, D] of residuals, counts [K], the rest [n]."""

    residuals: tf.Tensor
    counts: tf.Tensor
    assignments: tf.Tensor
    distances: tf.Tensor
    confidence: tf.Tensor


def default_chunk(num_clusters: int) -> int:
    """Rows per chunk: scores of about 8 MB stay in the last cache, and launches are few."""
    return max(256, min(4096, (1 << 21) // num_clusters // 256 * 256))


def cut(points: tf.Tensor, index: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts rows into [C, size, D] and [C, size], padding with index -1."""
    n, width = points.shape
    points, missing = tf.cast(points, tf.float32), -n % size
    if missing:  # Padding copies all rows, so not when there is nothing to pad.
        points = tf.pad(points, [[0, missing], [0, 0]])
        index = tf.pad(index, [[0, missing]], constant_values=-1)
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


def assign(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    temperature: float | tf.Tensor | None,
) -> Fit:
    """Assigns every row to its nearest used centroid, one chunk at a time.

    Args:
        points: float32 [C, size, D], see `cut`.
        index: int32 [C, size], -1 for padding rows.
        centroids: float32 [K, D].
        temperature: tau_c > 0 of the confidence, or None to leave it out.

    Returns:
        `Fit` with n = C * size. Its confidence is meaningless without a temperature.
    """
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
        # Negative segments are dropped. A product with 0 would keep the NaN of a padding row.
        labels = tf.where(real, own, -1)
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
    return Fit(residuals, counts, flat[0], flat[1], flat[-1])
