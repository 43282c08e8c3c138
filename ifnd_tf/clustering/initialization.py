"""k-means++, and a sample of the examples that is the same on every replica."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ifnd_tf.distribute import stateless_random
from ifnd_tf.distribute.replicas import Collectives

# Every coordinate of an unused centroid, as when K exceeds the number of distinct points. A
# finite mark survives checkpoints and all-reduces, where NaN would not.
UNUSED = 1e15

# Up to `_SINGLY` clusters one is drawn at a time; more are drawn in `_ROUNDS` rounds.
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

    The choice follows from the seed and the indices alone; padding comes last, with index -1.
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


def spread_centroids(
    points: tf.Tensor, index: tf.Tensor, num_clusters: int, seed: Any
) -> tf.Tensor:
    """Centroids far apart, drawn from the rows: k-means++, in rounds beyond `_SINGLY` clusters.

    Args:
        points: float32 [S, D], a sample of the examples.
        index: int32 [S], -1 for padding rows, which must be finite.
        num_clusters: K >= 1.
        seed: integer.

    Returns:
        float32 [K, D]; rows beyond the number of distinct points are unused (`UNUSED`).
    """
    draws = _Draws(points, index, seed)
    count = max(1, min(-(-num_clusters // _ROUNDS), draws.size, _DISTANCES // draws.size))
    if num_clusters <= _SINGLY or count == 1:
        rows = _greedy_plus_plus(draws, num_clusters)
    else:
        rows = _plus_plus_in_rounds(draws, num_clusters, count)
    return tf.where((rows >= 0)[:, None], tf.gather(points, tf.maximum(rows, 0)), UNUSED)


class _Draws:
    """Random rows of a sample, in proportion to a weight, and the distances to them."""

    def __init__(self, points: tf.Tensor, index: tf.Tensor, seed: Any):
        self._index, self._seed, self._real = index, seed, index >= 0
        self.size = index.shape[0]
        # Distances from |x|^2 - 2 x.c + |c|^2 cancel badly when all points share a direction,
        # as embeddings do early in training: measure from their mean.
        total = tf.reduce_sum(tf.cast(self._real, tf.float32))
        centred = points - tf.reduce_sum(points, 0) / tf.maximum(total, 1.0)
        # [D, S], since a CPU takes half the time for products of a few rows with these columns.
        self._columns = tf.transpose(tf.where(self._real[:, None], centred, 0.0))
        self._norms = tf.reduce_sum(self._columns * self._columns, 0)

    def race(self, step: tf.Tensor, weight: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws `count` rows in proportion to `weight` [S]: their scores and numbers, best first.

        An exponential race, which equals the Gumbel-max trick. A score of 0 or less is no draw.
        """
        draws = stateless_random.uniform([self._seed, _SEEDING, step], self._index, 1)[:, 0]
        exponential = 1e-9 - tf.math.log1p(-draws)  # 1e-9: a draw of 0 must not divide by 0.
        return tf.math.top_k(tf.where(self._real, weight / exponential, -1.0), count)

    def distances_to(self, rows: tf.Tensor) -> tf.Tensor:
        """Squared distances [n, S] of these n rows to all."""
        scale = tf.gather(self._norms, rows)[:, None] + self._norms
        own = tf.gather(self._columns, rows, axis=1)
        products = tf.matmul(own, self._columns, transpose_a=True)
        distances = scale - 2.0 * products
        # Below the product's rounding error two points count as the same.
        return tf.where(distances > 4e-6 * scale, distances, 0.0)

    def repeat(self, rounds: int, count: int, choose: Callable[..., tuple]) -> tf.Tensor:
        """Rows [rounds * count], the first `count` drawn uniformly, the others as `choose` does.

        Args:
            rounds: how often rows are chosen.
            count: rows of a round.
            choose: the round's number and each row's squared distance to the nearest chosen row
                -> these distances after the round, and the rows chosen, -1 for none.
        """
        score, first = self.race(tf.constant(0), tf.ones_like(self._norms), count)
        nearest = tf.where(self._real, tf.reduce_min(self.distances_to(first), 0), 0.0)
        chosen = tf.TensorArray(tf.int32, size=rounds, element_shape=[count])
        chosen = chosen.write(0, tf.where(score > 0.0, first, -1))  # -1: fewer examples than count

        def body(step: tf.Tensor, nearest: tf.Tensor, chosen: tf.TensorArray) -> tuple:
            nearest, rows = choose(step, nearest)
            return step + 1, nearest, chosen.write(step, rows)

        state = (tf.constant(1), nearest, chosen)
        chosen = tf.while_loop(
            lambda step, *_: step < rounds, body, state, maximum_iterations=rounds
        )[2]
        return tf.reshape(chosen.stack(), [-1])


def _greedy_plus_plus(draws: _Draws, num_clusters: int) -> tf.Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007): int32 [K] rows, -1 where none is left.

    A step draws 2 + log K candidates with probability proportional to their squared distance, and
    keeps the one that lowers the inertia most.
    """
    trials = min(2 + int(math.log(num_clusters)), draws.size)

    def choose(step: tf.Tensor, nearest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        score, rows = draws.race(step, nearest, trials)
        after = tf.minimum(nearest, draws.distances_to(rows))
        best = tf.argmin(tf.reduce_sum(after, 1), output_type=tf.int32)
        # The first candidate has the top score; if that is 0 no distinct point is left.
        row = tf.where(score[0] > 0.0, rows[best], -1)
        return after[best], row[None]

    return draws.repeat(num_clusters, 1, choose)


def _plus_plus_in_rounds(draws: _Draws, num_clusters: int, count: int) -> tf.Tensor:
    """k-means++ without candidates, `count` clusters a round: int32 [K] rows, -1 for none.

    As in k-means|| (Bahmani et al., 2012) a few passes replace K, and Lloyd's iterations make
    up for the difference (docs/performance.md).
    """

    def choose(step: tf.Tensor, nearest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        score, rows = draws.race(step, nearest, count)
        after = tf.minimum(nearest, draws.distances_to(rows))
        # A row whose score is 0 coincides with a centroid: no distinct point is left for it.
        return tf.reduce_min(after, 0), tf.where(score > 0.0, rows, -1)

    return draws.repeat(-(-num_clusters // count), count, choose)[:num_clusters]
