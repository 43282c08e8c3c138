"""Optimizers against updates written out in NumPy, and under every strategy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.models import optimizers
from ifnd_tf.training.learning_rate import WarmupCosine

KERNEL = np.array([[3.0, 0.0], [0.0, 4.0]])  # Norm 5.
BIAS = np.array([1.0, -2.0])
GRADIENTS = [
    (np.array([[0.0, 0.6], [0.8, 0.0]]), np.array([0.5, 0.25])),
    (np.array([[1.0, -0.5], [0.25, 0.1]]), np.array([-0.5, 0.1])),
    (np.array([[0.3, 0.2], [-0.7, 0.4]]), np.array([0.2, 0.9])),
]


def weights():
    return [
        keras.Variable(KERNEL.astype(np.float32), name="kernel"),
        keras.Variable(BIAS.astype(np.float32), name="bias"),
    ]


def after(optimizer, steps, variables=None):
    variables = variables or weights()
    for gradients in GRADIENTS[:steps]:
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], variables)
    return [np.asarray(v) for v in variables]


def test_sgd_is_coupled_l2_with_momentum_on_every_weight():
    rates = [0.1, 0.02, 0.3]  # A moving rate tells PyTorch's momentum from Keras'.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], rates)
    got = after(optimizers.MomentumSGD(schedule, momentum=0.9, l2=0.01), 3)
    for i, start in enumerate((KERNEL, BIAS)):
        w, m = start.copy(), np.zeros_like(start)
        for rate, gradients in zip(rates, GRADIENTS, strict=True):
            m = 0.9 * m + gradients[i] + 0.01 * w
            w = w - rate * m
        np.testing.assert_allclose(got[i], w, rtol=1e-6)


def test_sgd_without_decay_is_keras_sgd():
    variables = weights()
    ours = after(optimizers.make("sgd", variables, learning_rate=0.1, momentum=0.9), 3, variables)
    theirs = after(keras.optimizers.SGD(0.1, momentum=0.9), 3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_lars_by_hand():
    # |w| = 5, |g| = 1: the first step is 0.1 * 0.001 * 5 / 1 = 5e-4 times the gradient; the
    # bias takes a plain step of 0.1 times its own.
    kernel, bias = after(optimizers.LARS(0.1, momentum=0.9), 1)
    np.testing.assert_allclose(kernel, KERNEL - 5e-4 * GRADIENTS[0][0], rtol=1e-6)
    np.testing.assert_allclose(bias, BIAS - 0.1 * GRADIENTS[0][1], rtol=1e-6)


def test_lars_equals_numpy_over_steps():
    got = after(optimizers.LARS(0.5, momentum=0.9, l2=0.01, trust=0.02), 3)
    w, m, b, n = KERNEL.copy(), np.zeros((2, 2)), BIAS.copy(), np.zeros(2)
    for kernel_gradient, bias_gradient in GRADIENTS:
        g = kernel_gradient + 0.01 * w
        m = 0.9 * m + 0.02 * np.linalg.norm(w) / np.linalg.norm(g) * g
        w = w - 0.5 * m
        n = 0.9 * n + bias_gradient
        b = b - 0.5 * n
    np.testing.assert_allclose(got[0], w, rtol=1e-5)
    np.testing.assert_allclose(got[1], b, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (optimizers.MomentumSGD, {"learning_rate": 0.03, "momentum": 0.9, "l2": 0.0}),
        (optimizers.LARS, {"learning_rate": 0.3, "momentum": 0.9, "l2": 0.0, "trust": 0.001}),
    ],
)
def test_defaults_are_the_papers(kind, settings):
    for ours, theirs in zip(after(kind(), 3), after(kind(**settings), 3), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, value in settings.items():
        assert kind().get_config()[name] == pytest.approx(value)


def test_lars_step_has_the_weights_length_whatever_the_gradients():
    small, large = weights(), weights()
    optimizers.LARS(0.1).apply([tf.constant(g, tf.float32) for g in GRADIENTS[0]], small)
    optimizers.LARS(0.1).apply([tf.constant(1e4 * g, tf.float32) for g in GRADIENTS[0]], large)
    np.testing.assert_allclose(small[0], large[0], rtol=1e-6)


def test_lars_survives_zero_weights_and_zero_gradients():
    zero = keras.Variable(np.zeros((2, 2), np.float32))
    optimizers.LARS(0.1).apply([tf.ones([2, 2])], [zero])
    np.testing.assert_allclose(zero, -0.1 * np.ones((2, 2)), rtol=1e-6)
    still = keras.Variable(np.ones((2, 2), np.float32))
    optimizers.LARS(0.1).apply([tf.zeros([2, 2])], [still])
    np.testing.assert_array_equal(still, np.ones((2, 2)))


def test_exempt_are_biases_and_batch_norm():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    )
    exempt = {v.path.split("/")[-1] for v in model.trainable_variables if optimizers.is_exempt(v)}
    assert exempt == {"bias", "gamma", "beta"}


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_adamw_and_lamb_do_not_decay_biases(name):
    decayed, plain = weights(), weights()
    after(optimizers.make(name, decayed, learning_rate=0.1, weight_decay=0.2), 1, decayed)
    after(optimizers.make(name, plain, learning_rate=0.1), 1, plain)
    assert np.max(np.abs(np.asarray(decayed[0]) - np.asarray(plain[0]))) > 0.05
    np.testing.assert_array_equal(decayed[1], plain[1])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_is_built_by_make_and_takes_a_schedule(name):
    variables = weights()
    optimizer = optimizers.make(
        name, variables, learning_rate=WarmupCosine(peak=0.1, steps=3), weight_decay=0.01
    )
    assert optimizer.built
    moved = after(optimizer, 2, variables)
    assert not np.array_equal(moved[0], KERNEL.astype(np.float32))
    # The last step's rate is nearly 0: (1 + cos(2 pi / 3)) / 2 = 1/4 of the peak, then 0.
    np.testing.assert_allclose(optimizer.learning_rate, 0.025, rtol=1e-5)


@pytest.mark.parametrize("kind", [optimizers.MomentumSGD, optimizers.LARS])
def test_configuration_round_trip(kind):
    optimizer = kind(WarmupCosine(peak=0.3, steps=9), momentum=0.8, l2=0.02)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is kind
    for a, b in zip(after(optimizer, 3), after(again, 3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [optimizers.MomentumSGD, optimizers.LARS])
@pytest.mark.parametrize("jit", [False, True])
def test_eager_equals_compiled(kind, jit):
    variables, optimizer = weights(), kind(0.1, l2=0.01)
    optimizer.build(variables)

    @tf.function(jit_compile=jit)
    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    for gradients in GRADIENTS:
        step(*[tf.constant(g, tf.float32) for g in gradients])
    for got, expected in zip(variables, after(kind(0.1, l2=0.01), 3), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_every_strategy_takes_the_same_steps(strategy):
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        variables = weights()
        optimizer = optimizers.make("lars", variables, learning_rate=0.5, weight_decay=0.01)

    def step(gradients):
        # Keras adds the replicas' gradients, so each brings its share.
        optimizer.apply([g / replicas for g in gradients], variables)

    @tf.function
    def run(*gradients):
        strategy.run(step, args=(gradients,))

    for gradients in GRADIENTS:
        run(*[tf.constant(g, tf.float32) for g in gradients])
    expected = after(optimizers.LARS(0.5, momentum=0.9, l2=0.01), 3)
    for variable, value in zip(variables, expected, strict=True):
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", ""])
def test_make_refuses_unknown_names(name):
    with pytest.raises(UserError, match="sgd, lars, adamw, lamb"):
        optimizers.make(name, [], learning_rate=0.1)
