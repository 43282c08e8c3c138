"""The random order of an epoch, computed place by place without memory."""

import tensorflow as tf

# With one example more than these, TensorFlow's block cipher has a bit too few, and gives an index
# twice: 4^8, where it begins, to 4^15.
_TOO_SHORT = tuple(4**power for power in range(8, 16))


def permuted(places: tf.Tensor, count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The numbers at some places of a random order of 0 to `count` - 1.

    Args:
        places: integers [n] in [0, count).
        count: >= 1.
        seed: int32 [2].
    """
    shuffle = tf.random.experimental.index_shuffle
    if isinstance(count, int) and count - 1 not in _TOO_SHORT:
        return shuffle(places, seed=seed, max_index=count - 1)
    count = tf.cast(count, places.dtype)
    short = tf.reduce_any(count - 1 == tf.constant(_TOO_SHORT, places.dtype))
    last = tf.where(short, count, count - 1)
    # In an order of one number more the cipher is applied again where it gives that number.
    found, again = (shuffle(each, seed=seed, max_index=last) for each in (places, last))
    return tf.where(found == count, again, found)
