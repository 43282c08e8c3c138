"""Communication between replicas."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute.replicas import (
    all_gather,
    all_reduce_mean,
    exchange,
    exchange_pieces,
    num_replicas,
    replica_id,
)
from ifnd_tf.errors import UserError
from tests.conftest import make_strategy


@pytest.mark.distribution
@pytest.mark.parametrize("replicas", [2, 4])
def test_exchange_mixes_the_replicas_and_comes_back(replicas):
    strategy = make_strategy(f"mirrored-{replicas}")
    rows = 8

    @tf.function
    def step():
        def one():
            mine = replica_id() * rows + tf.range(rows)
            moved = exchange(mine[:, None])
            return moved[:, 0], exchange(moved, inverse=True)[:, 0]

        return strategy.run(one)

    moved, back = (np.array(strategy.experimental_local_results(v)) for v in step())
    np.testing.assert_array_equal(back, np.arange(replicas * rows).reshape(replicas, rows))
    assert sorted(moved.ravel()) == list(range(replicas * rows))
    for replica in moved:
        # An equal number of rows of each replica.
        np.testing.assert_array_equal(np.bincount(replica // rows), [rows // replicas] * replicas)


@pytest.mark.parametrize(
    ("rows", "replicas", "pieces"), [(32, 8, 8), (32, 512, 8), (12, 8, 4), (6, 2, 2)]
)
def test_exchange_pieces(rows, replicas, pieces):
    assert exchange_pieces(rows, replicas) == pieces


def test_a_batch_that_cannot_be_shuffled_is_refused():
    with pytest.raises(UserError, match="common divisor"):
        exchange_pieces(9, 4)


def test_outside_replicas_nothing_is_communicated():
    x = tf.constant([1.0, 2.0])
    assert num_replicas() == 1
    for function in (
        all_reduce_mean, all_gather
    ):  # fmt: skip
        np.testing.assert_array_equal(function(x), x)


@pytest.mark.distribution
def test_all_gather_sums_gradients_over_replicas():
    strategy = make_strategy("mirrored-2")

    @tf.function
    def step():
        def one():
            x = tf.constant([2.0])
            with tf.GradientTape() as tape:
                tape.watch(x)
                # Each replica's loss is (replica + 1) * sum of all x.
                scale = tf.cast(replica_id() + 1, tf.float32)
                loss = scale * tf.reduce_sum(all_gather(x))
            return tape.gradient(loss, x)

        return strategy.run(one)

    for gradient in strategy.experimental_local_results(step()):
        np.testing.assert_allclose(gradient, [1.0 + 2.0])
