"""The nearest candidates of each anchor, without sorting."""

import functools

import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, row_counts

# Thresholds tried at once, as many as a CPU counts in one pass over 4,096 candidates; and the most
# passes, after which an interval of cosines is at the resolution of float32.
_TRIED, _PASSES = 5, 10


def nearest(values: tf.Tensor, count: tf.Tensor) -> Pairs:
    """The pairs with the `count` largest finite values of each row; all, where there are fewer.

    A search for a threshold: an interval of values is divided in six repeatedly, until `count`
    values lie above one of the divisions. Where equal values make that impossible, fewer are taken.

    Args:
        values: float32 [B, M]; -inf is never taken.
        count: float32 [B], whole numbers.
    """
    highest = tf.reduce_max(values, axis=1)
    lowest = tf.reduce_min(tf.where(values == float("-inf"), highest[:, None], values), axis=1)
    everything = row_counts([lambda: values > float("-inf")])[0] <= count
    low = tf.where(everything, float("-inf"), tf.where(count > 0.0, lowest, float("inf")))

    def narrow(
        turn: tf.Tensor, low: tf.Tensor, high: tf.Tensor, found: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        places = tf.range(1.0, _TRIED + 1.0)[:, None] / (_TRIED + 1)
        tried = low + places * (high - low)
        above = row_counts([functools.partial(_above, values, each) for each in tf.unstack(tried)])
        new_low = tf.reduce_max(tf.where(above >= count, tried, low), axis=0)
        new_high = tf.reduce_min(tf.where(above < count, tried, high), axis=0)
        return (
            turn + 1,
            tf.where(found, low, new_low),
            tf.where(found, high, new_high),
            found | tf.reduce_any(above == count, axis=0),
        )

    def unfinished(turn: tf.Tensor, low: tf.Tensor, high: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return (turn < _PASSES) & ~tf.reduce_all(found)

    start = tf.constant(0), low, highest, everything | (count <= 0.0)
    _, low, high, found = tf.while_loop(unfinished, narrow, start)
    return functools.partial(_above, values, tf.where(found, low, high))


def _above(values: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    return values > thresholds[:, None]
