"""An order holds every number once, and is TensorFlow's own where that does."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data.permutation import permuted


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 65_536, 65_537, 65_538, 262_145])
@pytest.mark.parametrize("known", [True, False])
def test_every_number_comes_once(count, known):
    seed, places = tf.constant([3, 1]), tf.range(count)
    order = tf.function(permuted)(places, count if known else tf.constant(count), seed).numpy()
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    if count not in (65_537, 262_145):
        shuffle = tf.random.experimental.index_shuffle
        expected = shuffle(places, seed=seed, max_index=count - 1)
        np.testing.assert_array_equal(order, expected)
