"""Batch-norm policies: their values, and whether they betray the positive pair."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute.replicas import traced_for_accelerator
from ifnd_tf.models.batch_norm import BatchNorm, interleave
from ifnd_tf.models.loss import LossSettings
from ifnd_tf.models.moco import MoCo
from ifnd_tf.models.network import Network
from tests.conftest import make_strategy


def normalised(x):
    """x [n, ..., C] with mean 0 and variance 1 over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def images(rows=16, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, (rows, 3, 3, 5)).astype(np.float32)


def test_local_normalises_over_the_batch():
    x = images()
    np.testing.assert_allclose(BatchNorm("local")(x, training=True), normalised(x), atol=1e-5)


def test_split_normalises_each_part():
    x = images()
    expected = np.concatenate([normalised(part) for part in np.split(x, 4)])
    np.testing.assert_allclose(BatchNorm("split", splits=4)(x, training=True), expected, atol=1e-5)


def test_split_is_the_same_for_accelerators():
    """Outputs, moving statistics and gradients of the form that lowered programs hold."""
    scales = np.array([0.1, 0.2, 0.5, 1.0, 2.0], np.float32)  # variances below and above 1
    x, weights = tf.constant(images() * scales), tf.constant(images(seed=1))

    def run():
        layer = BatchNorm("split", splits=4)
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1.0, 1.5, 2.0, 2.5])
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(weights * outputs**2)
        variables = [layer.gamma.value, layer.beta.value]
        statistics = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
        return [outputs, *tape.gradient(loss, [x, *variables]), *statistics]

    expected = run()
    with traced_for_accelerator():
        found = run()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


def test_inference_uses_the_moving_statistics():
    layer = BatchNorm("local", momentum=0.0)
    x = images(rows=64)
    layer(x, training=True)
    # With momentum 0 they are the last batch's, the variance with Bessel's correction.
    np.testing.assert_allclose(layer.moving_mean, x.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2), ddof=1), rtol=1e-4)
    np.testing.assert_allclose(layer(x, training=False), normalised(x), atol=1e-2)


@pytest.mark.parametrize("policy", ["sync", "local"])
def test_statistics_over_replicas(strategy, policy):
    replicas = strategy.num_replicas_in_sync
    x = images()
    parts = np.split(x, replicas)
    with strategy.scope():
        layer = BatchNorm(policy, momentum=0.0)
        layer.build(x.shape)

    @tf.function
    def step(values):
        return strategy.run(lambda v: layer(v, training=True), args=(values,))

    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    found = np.concatenate(strategy.experimental_local_results(step(values)))
    if policy == "sync":
        expected = normalised(x)
    else:
        expected = np.concatenate([normalised(part) for part in parts])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if policy == "sync":  # on any number of replicas, with Bessel's correction
        variance = strategy.experimental_local_results(layer.moving_variance.value)[0]
        np.testing.assert_allclose(variance, x.var((0, 1, 2), ddof=1), rtol=1e-5)
    # All replicas hold the same moving statistics, whatever the policy.
    for value in strategy.experimental_local_results(layer.moving_mean.value):
        np.testing.assert_allclose(value, x.mean((0, 1, 2)), atol=1e-5)


def test_a_batch_of_one_pixel_has_a_variance_of_zero():
    layer = BatchNorm("sync", momentum=0.0)
    outputs = layer(np.full((1, 1, 1, 5), 3.0, np.float32), training=True)
    np.testing.assert_array_equal(outputs, np.zeros((1, 1, 1, 5)))
    np.testing.assert_array_equal(layer.moving_variance, np.zeros(5))


def test_interleave_deals_like_cards_and_back():
    x = tf.range(12)
    dealt = interleave(x, 3)
    np.testing.assert_array_equal(dealt, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    np.testing.assert_array_equal(interleave(dealt, 12 // 3), x)


class _Statistics(keras.layers.Layer):
    """The adversary: its output is its batch's statistics and nothing of the image.

    A row of zeros is normalised along with the content; what comes out of it is -mean / std
    of the batch, or of whatever part of it the layer normalises over.
    """

    def __init__(self, policy, splits):
        super().__init__()
        self.norm = BatchNorm(policy, splits)

    def call(self, x, training=False):
        content = tf.reshape(x, [-1, 1, 1, x.shape[1] * x.shape[2] * x.shape[3]])
        padded = tf.concat([content, tf.zeros_like(content)], axis=1)
        return self.norm(padded, training=training)[:, 1, 0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], int(np.prod(input_shape[1:])))


def adversary(policy, splits):
    inputs = keras.Input((2, 2, 4))
    encoder = keras.Model(inputs, _Statistics(policy, splits)(inputs))
    head = keras.Input((16,))
    return Network(encoder, keras.Model(head, keras.layers.Identity()(head)))


def share_solved(strategy, policy, rows=128, splits=8, batches=12):
    """How often the adversary tells its own key from those of earlier batches."""
    with strategy.scope():
        networks = adversary(policy, splits), adversary(policy, splits)
        model = MoCo(
            *networks, queue_size=rows, batch_norm=policy, batch_norm_splits=splits,
            num_examples=1, num_levels=0, loss=LossSettings(),
        )  # fmt: skip
    rng = np.random.default_rng(0)
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def step(first, second):
        def one(a, b):
            return model.network.embed(a, training=True), model.keys(b)[0]

        return strategy.run(one, args=(first, second))

    def distributed(x):
        parts = np.split(x, replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    queries, keys = [], []
    for _ in range(batches):
        content = rng.normal(size=(rows, 2, 2, 4)).astype(np.float32)
        views = [content + rng.normal(0, 0.1, content.shape).astype(np.float32) for _ in range(2)]
        outputs = step(*[distributed(view) for view in views])
        for list_, value in zip((queries, keys), outputs, strict=True):
            list_.append(np.concatenate(strategy.experimental_local_results(value)))
    queue = np.concatenate(keys[:-1])
    positive = np.sum(queries[-1] * keys[-1], axis=1)
    return np.mean(positive > (queries[-1] @ queue.T).max(axis=1))


def test_local_statistics_leak_and_split_ones_do_not():
    strategy = tf.distribute.get_strategy()
    assert share_solved(strategy, "local") == 1.0
    assert share_solved(strategy, "split") < 0.2


@pytest.mark.slow
@pytest.mark.distribution
def test_shuffling_over_replicas_stops_the_leak():
    strategy = make_strategy("mirrored-4")
    assert share_solved(strategy, "local") == 1.0
    assert share_solved(strategy, "shuffle") < 0.5
