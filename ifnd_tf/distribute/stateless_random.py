"""Random numbers that belong to an example, not to its place in a tensor.

`tf.random.stateless_uniform` gives row 7 of a tensor the same numbers whichever
example stands there. Here the numbers follow from (seed, epoch, index) alone, so
views, initial centroids and controls are the same in any read order and on any
number of replicas. Integer arithmetic only: eager, graph, XLA, CPU and TPU agree.
"""

import tensorflow as tf


def _mix(x: tf.Tensor) -> tf.Tensor:
    """MurmurHash3's 32-bit finaliser: every input bit flips each output bit half the time."""
    shift = tf.bitwise.right_shift
    x = tf.bitwise.bitwise_xor(x, shift(x, tf.constant(16, tf.uint32)))
    x *= tf.constant(0x85EBCA6B, tf.uint32)
    x = tf.bitwise.bitwise_xor(x, shift(x, tf.constant(13, tf.uint32)))
    x *= tf.constant(0xC2B2AE35, tf.uint32)
    return tf.bitwise.bitwise_xor(x, shift(x, tf.constant(16, tf.uint32)))


def uniform(keys: list[int | tf.Tensor], index: tf.Tensor, count: int) -> tf.Tensor:
    """Draws `count` uniform numbers for every example.

    Args:
        keys: integers or scalar integer tensors (seed, epoch, purpose, ...), folded in order.
        index: the examples' indices, an integer tensor of any shape `[...]`.
        count: how many numbers an example gets.

    Returns:
        float32 `[..., count]` in `[0, 1)`, a function of `keys`, `index` and the draw's
        number alone.
    """
    state = tf.constant(0x9E3779B9, tf.uint32)
    for key in keys:
        state = _mix(state * tf.constant(31, tf.uint32) + tf.cast(key, tf.uint32))
    rows = _mix(tf.bitwise.bitwise_xor(tf.cast(index, tf.uint32), state))
    # A second key-dependent round: without it two keys that differ by an xor of two
    # indices would give those examples each other's numbers.
    rows = _mix(rows + state)
    draws = tf.range(count, dtype=tf.int32)
    columns = _mix(tf.cast(draws, tf.uint32) * tf.constant(0x9E3779B9, tf.uint32) + state)
    bits = _mix(tf.bitwise.bitwise_xor(rows[..., None] * tf.constant(5, tf.uint32), columns))
    # 24 bits fill a float32's significand: the result is exact and never 1.
    top = tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32))
    return tf.cast(top, tf.float32) * (1.0 / (1 << 24))
