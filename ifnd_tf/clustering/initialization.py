"""k-means++, and the sample of the examples that every replica draws alike."""

import math
from typing import Any

import tensorflow as tf

from ifnd_tf.distribute import stateless_random
from ifnd_tf.distribute.collectives import Collectives

# Every coordinate of a centroid that stands for nothing, as when K exceeds the number of
# distinct points. A finite mark survives checkpoints and all-reduces, where NaN would not.
UNUSED = 1e15

# Clusters that are drawn one at a time, and draws of several where there are more: see `plus_plus`.
_SINGLY, _ROUNDS = 128, 32

# Distances from the sample to the rows of one draw, at most: 16 MB.
_DISTANCES = 1 << 22

_SAMPLE, _SEEDING = 101, 102  # Purposes of the random draws; any two different numbers.


def used(centroids: tf.Tensor) -> tf.Tensor:
    """Which rows of `centroids` [K, D] stand for a cluster: bool [K]."""
    return centroids[:, 0] < 0.5 * UNUSED


def sample(
    points: tf.Tensor, index: tf.Tensor, size: int, seed: int | tf.Tensor, collectives: Collectives
) -> tuple[tf.Tensor, tf.Tensor]:
    """The same `size` examples on every replica, ordered by index: [S, D] and [S].

    Which ones follows from the seed and the indices alone; padding comes last, index -1.
    Replicas exchange indices first and then only the rows that were chosen.

    Args:
        points: float [n, D], this replica's rows.
        index: int32 [n], the examples' indices, -1 for padding.
        size: S, examples to draw at most.
        seed: integer.
        collectives: how replicas combine.
    """
    last = tf.int32.max
    index = tf.where(index < 0, last, index)

    def chosen(index: tf.Tensor) -> tf.Tensor:
        # Sorting by index first lets ties of the 24-bit priorities fall to the lower index.
        index = tf.sort(index)
        priority = stateless_random.uniform([seed, _SAMPLE], index, 1)[:, 0]
        priority = tf.where(index == last, -1.0, priority)
        _, rows = tf.math.top_k(priority, min(size, index.shape[0]))
        return tf.sort(tf.gather(index, rows))

    picked = chosen(collectives.concat(chosen(index)))
    order = tf.argsort(index)
    place = tf.minimum(tf.searchsorted(tf.gather(index, order), picked), index.shape[0] - 1)
    rows = tf.gather(order, place)
    here = (tf.gather(index, rows) == picked) & (picked != last)
    # Each example lives on one replica; the others contribute zeros to its row.
    own = tf.cast(tf.gather(points, rows), tf.float32)
    found = collectives.sum(tf.where(here[:, None], own, 0.0))
    return found, tf.where(picked == last, -1, picked)


def plus_plus(points: tf.Tensor, index: tf.Tensor, num_clusters: int, seed: Any) -> tf.Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): centroids far apart, drawn from the rows.

    Up to `_SINGLY` clusters are drawn one at a time, greedily: a step draws 2 + log K candidates
    with probability proportional to their squared distance (an exponential race, equal to the
    Gumbel-max trick) and keeps the one that lowers the inertia most. More are drawn K / _ROUNDS
    at a time, without candidates, or fewer where their distances to the sample would take more
    than 16 MB: as in k-means|| (Bahmani et al., 2012) a few passes do instead of K, and Lloyd's
    iterations level out the difference (docs/performance.md).

    Args:
        points: float32 [S, D], a sample of the examples.
        index: int32 [S], -1 for padding rows, which must be finite.
        num_clusters: K >= 1.
        seed: integer.

    Returns:
        float32 [K, D]; rows beyond the number of distinct points are unused (`UNUSED`).
    """
    real = index >= 0
    size, block = index.shape[0], 1
    if num_clusters > _SINGLY:
        block = max(1, min(-(-num_clusters // _ROUNDS), size, _DISTANCES // size))
    rounds = -(-num_clusters // block)
    # Distances from |x|^2 - 2 x.c + |c|^2 cancel badly when all points share a direction,
    # as embeddings do early in training: measure from their mean.
    total = tf.reduce_sum(tf.cast(real, tf.float32))
    x = tf.where(real[:, None], points - tf.reduce_sum(points, 0) / tf.maximum(total, 1.0), 0.0)
    norms = tf.reduce_sum(x * x, 1)
    trials = 1 if block > 1 else min(2 + int(math.log(num_clusters)), size)

    def race(step: tf.Tensor, weight: tf.Tensor, count: int) -> tuple:
        draws = stateless_random.uniform([seed, _SEEDING, step], index, 1)[:, 0]
        exponential = 1e-9 - tf.math.log1p(-draws)  # 1e-9: a draw of 0 must not divide by 0.
        return tf.math.top_k(tf.where(real, weight / exponential, -1.0), count)

    def distances_to(rows: tf.Tensor) -> tf.Tensor:
        scale = norms[:, None] + tf.gather(norms, rows)
        distances = scale - 2.0 * tf.matmul(x, tf.gather(x, rows), transpose_b=True)
        # Below the product's rounding error two points count as the same.
        return tf.where(distances > 4e-6 * scale, distances, 0.0)

    def body(step: tf.Tensor, nearest: tf.Tensor, chosen: tf.TensorArray) -> tuple:
        score, rows = race(step, nearest, block * trials)
        after = tf.minimum(nearest[:, None], distances_to(rows))
        if block > 1:
            # A row whose score is 0 coincides with a centroid: no distinct point is left for it.
            return (
                step + 1,
                tf.reduce_min(after, 1),
                chosen.write(step, tf.where(score > 0.0, rows, -1)),
            )
        best = tf.argmin(tf.reduce_sum(after, 0), output_type=tf.int32)
        # The first candidate has the top score; if that is 0 no distinct point is left.
        row = tf.where(score[0] > 0.0, rows[best], -1)
        return step + 1, tf.gather(after, best, axis=1), chosen.write(step, row[None])

    first = race(tf.constant(0), tf.ones_like(norms), block)[1]
    nearest = tf.where(real, tf.reduce_min(distances_to(first), 1), 0.0)
    chosen = tf.TensorArray(tf.int32, size=rounds, element_shape=[block]).write(0, first)
    _, _, chosen = tf.while_loop(
        lambda step, *_: step < rounds,
        body,
        (tf.constant(1), nearest, chosen),
        maximum_iterations=rounds,
    )
    rows = tf.reshape(chosen.stack(), [-1])[:num_clusters]
    return tf.where((rows >= 0)[:, None], tf.gather(points, tf.maximum(rows, 0)), UNUSED)
