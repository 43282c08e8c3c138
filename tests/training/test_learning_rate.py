"""The learning rate against arithmetic by hand, in every mode of execution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.training.learning_rate import WarmupCosine, encoder_rate


def test_warmup_cosine_by_hand():
    schedule = WarmupCosine(peak=2.0, steps=10, warmup_steps=2)
    # 1/2 and 2/2 of the peak, then half a cosine over 8 steps: cos 0, ..., cos pi/2, ..., cos pi.
    expected = {0: 1.0, 1: 2.0, 2: 2.0, 4: 1 + 0.5**0.5, 6: 1.0, 8: 1 - 0.5**0.5, 10: 0.0, 11: 0.0}
    for step, value in expected.items():
        np.testing.assert_allclose(schedule(step), value, atol=1e-6)


def test_a_warmup_of_one_step_is_a_step_at_the_peak():
    schedule = WarmupCosine(peak=2.0, steps=10, warmup_steps=1)
    assert [float(schedule(step)) for step in (0, 1)] == [2.0, 2.0]


def test_a_frozen_encoder_has_no_learning_rate():
    rates = [encoder_rate(tf.constant(s), scale=0.5, frozen_steps=2) for s in range(4)]
    np.testing.assert_array_equal(rates, np.float32([0, 0, 0.5, 0.5]))


def test_without_warmup_it_is_keras_cosine_decay():
    ours = WarmupCosine(peak=0.06, steps=50)
    theirs = keras.optimizers.schedules.CosineDecay(0.06, 50)
    for step in range(0, 55, 5):
        np.testing.assert_allclose(ours(step), theirs(step), atol=1e-7)


@pytest.mark.parametrize("jit", [False, True])
def test_warmup_cosine_compiles_to_the_same_float32(jit):
    schedule = WarmupCosine(peak=0.5, steps=100, warmup_steps=10)
    compiled = tf.function(schedule, jit_compile=jit)
    for step in (0, 9, 10, 60, 100):
        value = compiled(tf.constant(step, tf.int64))
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, schedule(step), rtol=1e-5, atol=1e-8)


def test_warmup_cosine_survives_serialisation():
    schedule = WarmupCosine(peak=0.5, steps=100, warmup_steps=10)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert again.get_config() == {"peak": 0.5, "steps": 100, "warmup_steps": 10}
    assert float(again(30)) == float(schedule(30))


@pytest.mark.parametrize("warmup", [-1, 100, 101])
def test_warmup_must_be_shorter_than_the_run(warmup):
    with pytest.raises(UserError, match=f"Received: {warmup}"):
        WarmupCosine(peak=1.0, steps=100, warmup_steps=warmup)
