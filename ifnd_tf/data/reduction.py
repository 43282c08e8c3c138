"""How far an image is reduced before views are cut out of it."""

import functools
from collections.abc import Callable

import tensorflow as tf

# Divisors of an image's sides: 2 to the number of halvings.
_DIVISORS = (1, 2, 4, 8, 16)


def halvings(size: tf.Tensor, least_side: float) -> tf.Tensor:
    """How often an image's sides are halved: int32 [], 0 to 4.

    Args:
        size: int32 [2], height and width in pixels.
        least_side: pixels that are left of the short side; 0: it is not halved.
    """
    if not least_side:
        return tf.constant(0)
    short = tf.cast(tf.reduce_min(size), tf.float32)
    return tf.add_n([tf.cast(short >= least_side * by, tf.int32) for by in _DIVISORS[1:]])


def reduced(size: tf.Tensor, least_side: float, at: Callable[[int], tf.Tensor]) -> tf.Tensor:
    """The image that `at` makes with its sides divided by 1, 2, 4, 8 or 16; see `halvings`."""
    if not least_side:
        return at(1)
    return tf.switch_case(
        halvings(size, least_side), [functools.partial(at, by) for by in _DIVISORS]
    )


def means(image: tf.Tensor, by: int) -> tf.Tensor:
    """uint8 means of squares of `by` x `by` pixels."""
    if by == 1:
        return image
    pooled = tf.nn.avg_pool2d(tf.cast(image[None], tf.float32), by, by, "VALID")
    return tf.cast(pooled[0] + 0.5, tf.uint8)
