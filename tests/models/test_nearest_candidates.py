"""Selection by a threshold against sorting."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ifnd_tf.models.nearest_candidates import nearest

HOWS = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, autograph=False, jit_compile=True),
}


def taken(values, count, how="eager"):
    found = HOWS[how](lambda v, c: nearest(v, c)())
    return found(tf.constant(values, tf.float32), tf.constant(count, tf.float32)).numpy()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-3, 1.0, 50.0]))
def test_takes_the_largest(seed, scale):
    random = np.random.default_rng(seed)
    values = (scale * random.normal(size=(6, 384))).astype(np.float32)
    values[random.random(values.shape) < 0.2] = -np.inf
    values[5] = -np.inf
    count = random.integers(0, 400, 6)
    found = taken(values, count)
    for row, want, own in zip(values, count, found, strict=True):
        order = np.argsort(-row, kind="stable")[: min(want, np.isfinite(row).sum())]
        np.testing.assert_array_equal(np.flatnonzero(own), np.sort(order))


@pytest.mark.parametrize("how", HOWS)
def test_equal_values_are_left_out_where_all_would_be_too_many(how):
    values = [[3.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 2.0]]
    np.testing.assert_array_equal(taken(values, [2, 3], how), [[1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(taken(values, [3, 4], how), [[1, 1, 1, 0], [1, 1, 1, 1]])


def test_near_values_are_told_apart():
    values = np.linspace(0.5, 0.5 + 1e-4, 256, dtype=np.float32)[None] + np.zeros(
        [2, 1], np.float32
    )
    values[:, 0] = -1.0
    for count in (1, 7, 200):
        assert abs(taken(values, [count, count]).sum(axis=1) - count).max() <= 1
