"""Assigns every row to its nearest centroid, chunk by chunk: the pass that k-means repeats.

On a CPU the product takes two thirds of a pass and the search for its largest entries a quarter
(docs/performance.md), so nothing else touches the N x K scores.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.clustering.initialization import used
from ifnd_tf.distribute.replicas import on_cpu


class Nearest(NamedTuple):
    """One pass over a replica's rows: label, squared distance and, if asked for, confidence [n]."""

    assignments: tf.Tensor
    distances: tf.Tensor
    confidence: tf.Tensor | None = None


def default_chunk(num_clusters: int) -> int:
    """Rows per chunk: few launches, and scores of about 8 MB.

    On a CPU 4 MB are as fast, and k-means takes half the memory (docs/performance.md). A TPU stores
    no scores and reads all centroids for each chunk, hence more rows (docs/scaling.md).
    """
    scores, fewest = (1 << 20, 256) if on_cpu() else (1 << 21, 1024)
    return max(fewest, min(8192, scores // num_clusters // 256 * 256))


def nearest_centroids(
    points: tf.Tensor,
    index: tf.Tensor,
    centroids: tf.Tensor,
    temperature: float | tf.Tensor | None = None,
    size: int | None = None,
) -> Nearest:
    """Assigns every row to its nearest used centroid.

    Args:
        points: float [n, D].
        index: int32 [n], -1 for padding rows: these get label -1, distance and confidence 0.
        centroids: float32 [K, D].
        temperature: tau_c > 0 of the confidence, or None to leave it out.
        size: rows at a time; None: `default_chunk`.
    """
    valid = used(centroids)
    centroids = tf.where(valid[:, None], centroids, 0.0)
    # argmin |x - c|^2 = argmax x.(c - m) - (|c - m|^2 / 2 + m.(c - m)) for any m. Embeddings that
    # share a direction, as they do early in training, differ by less than the rounding of x.c.
    count = tf.reduce_sum(tf.cast(valid, tf.float32))
    middle = tf.reduce_sum(centroids, 0) / tf.maximum(count, 1.0)
    apart = tf.where(valid[:, None], centroids - middle, 0.0)
    transposed = tf.transpose(apart)
    # -inf keeps unused rows from winning.
    bias = tf.where(valid, -tf.reduce_sum(apart * (0.5 * apart + middle), 1), -math.inf)
    directions = None if temperature is None or on_cpu() else _unit(centroids)

    def fit(x: tf.Tensor, index: tf.Tensor) -> list[tf.Tensor]:
        x, real = tf.cast(x, tf.float32), index >= 0
        dots = tf.matmul(x, transposed)
        own = tf.argmax(tf.nn.bias_add(dots, bias), axis=1, output_type=tf.int32)
        # Distances are taken as |x - c|^2, not from the scores, whose cancellation would
        # drown tight clusters.
        distances = tf.reduce_sum(tf.square(x - tf.gather(centroids, own)), 1)
        # `where`, since a product with 0 would keep the NaN of a padding row.
        found = [tf.where(real, own, -1), tf.where(real, distances, 0.0)]
        if temperature is not None:
            if directions is None:
                share = tf.exp(_log_share(dots, x, centroids, middle, valid, own, temperature))
            else:
                share = _share(x, directions, valid, own, temperature)
            found.append(tf.where(real, tf.minimum(share, 1.0), 0.0))
        return found

    kinds = [tf.int32, tf.float32] + [tf.float32] * (temperature is not None)
    size = size or default_chunk(centroids.shape[0])
    return Nearest(*_by_chunks(fit, points, index, size, kinds))


@tf.function(jit_compile=True, autograph=False)
def _log_share(
    dots: tf.Tensor,
    points: tf.Tensor,
    centroids: tf.Tensor,
    middle: tf.Tensor,
    valid: tf.Tensor,
    assignments: tf.Tensor,
    temperature: float | tf.Tensor,
) -> tf.Tensor:
    """Log of the confidence [n] (method, eq. 3) from the products x.(c - m) [n, K].

    Compiled, since XLA makes one pass over these products, and TensorFlow six.
    """
    dots += tf.linalg.matvec(points, middle)[:, None]
    row = tf.math.rsqrt(tf.maximum(tf.reduce_sum(points * points, 1), 1e-30)) / temperature
    column = tf.math.rsqrt(tf.maximum(tf.reduce_sum(centroids * centroids, 1), 1e-30))
    logits = dots * row[:, None] * column + tf.where(valid, 0.0, -math.inf)
    own = tf.gather(logits, assignments, axis=1, batch_dims=1)
    return own - tf.reduce_logsumexp(logits, axis=1)


def _unit(x: tf.Tensor) -> tf.Tensor:
    """Rows scaled to unit length; rows of zeros stay zero."""
    return x * tf.math.rsqrt(tf.maximum(tf.reduce_sum(x * x, 1, keepdims=True), 1e-30))


def _share(
    points: tf.Tensor,
    directions: tf.Tensor,
    valid: tf.Tensor,
    assignments: tf.Tensor,
    temperature: float | tf.Tensor,
) -> tf.Tensor:
    """The confidence [n] (method, eq. 3) by a product with the centroids' directions [K, D].

    For TPUs and GPUs, where memory is slower than products: each product is fused with the one
    reduction that reads it, so the n x K scores are never written. Sharing one product between the
    assignment and the confidence would write and read them.
    """
    rows = _unit(points) / temperature
    own = tf.reduce_sum(rows * tf.gather(directions, assignments), 1)
    # Relative to the assigned centroid's logit, which saves the reduction for a maximum. A logit
    # that is larger by 80 has the whole softmax already.
    above = tf.minimum(tf.matmul(rows, directions, transpose_b=True) - own[:, None], 80.0)
    return 1.0 / tf.reduce_sum(tf.where(valid, tf.exp(above), 0.0), 1)


def _by_chunks(
    function: Callable[[tf.Tensor, tf.Tensor], Sequence[tf.Tensor]],
    points: tf.Tensor,
    index: tf.Tensor,
    size: int,
    kinds: Sequence[tf.DType],
) -> list[tf.Tensor]:
    """Applies `function` to `size` rows at a time: only its results, one per row, grow with n.

    The last n % size rows go by themselves, since padding would copy all of them.
    """
    n, width = points.shape
    size = min(size, n)
    whole, rest = divmod(n, size)

    def body(i: tf.Tensor, *out: tf.TensorArray) -> tuple:
        # tf.slice, because XLA wants the size known.
        values = function(
            tf.slice(points, [i * size, 0], [size, width]), tf.slice(index, [i * size], [size])
        )
        return (i + 1, *(o.write(i, value) for o, value in zip(out, values, strict=True)))

    arrays = [tf.TensorArray(kind, size=whole, element_shape=[size]) for kind in kinds]
    _, *written = tf.while_loop(
        lambda i, *_: i < whole, body, (tf.constant(0), *arrays), maximum_iterations=whole
    )
    parts = [tf.reshape(array.stack(), [whole * size]) for array in written]
    if not rest:
        return parts
    last = function(points[whole * size :], index[whole * size :])
    return [tf.concat(pair, axis=0) for pair in zip(parts, last, strict=True)]
