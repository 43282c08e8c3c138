"""Acceptance against a slow reference, and the numbers of clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifnd_tf.detection import pseudo_labels as lib
from ifnd_tf.errors import UserError
from tests import reference

# Few different values, so that ties are the rule.
CONFIDENCES = st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=30)


def random_labels(seed, levels, n, classes=4):
    return np.random.default_rng(seed).integers(-1, classes, (levels, n)).astype(np.int32)


# --- acceptance -----------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    confidence=CONFIDENCES,
    rate=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]),
    scope=st.sampled_from(lib.SCOPES),
    seed=st.integers(0, 1000),
)
def test_accept_equals_the_reference(confidence, rate, scope, seed):
    assignments = random_labels(seed, 1, len(confidence))[0]
    np.testing.assert_array_equal(
        lib.accept(np.array(confidence), assignments, rate, scope),
        np.where(reference.accept(confidence, assignments, rate, scope), assignments, -1),
    )


@pytest.mark.parametrize("scope", lib.SCOPES)
def test_none_at_zero_and_all_assigned_at_one(scope):
    confidence, assignments = np.full(7, 0.5), np.array([0, 1, -1, 1, 2, 0, 0])
    np.testing.assert_array_equal(lib.accept(confidence, assignments, 0.0, scope), np.full(7, -1))
    labels = lib.accept(confidence, assignments, 1.0, scope)
    np.testing.assert_array_equal(labels, assignments)
    assert labels.dtype == np.int32


def test_the_most_confident_come_first_and_ties_go_to_the_lower_index():
    confidence = np.array([0.2, 0.9, 0.5, 0.5, 0.5])
    accepted = lib.accept(confidence, np.zeros(5, int), 0.6)  # 3 of 5
    np.testing.assert_array_equal(accepted, [-1, 0, 0, 0, -1])


def test_rounding_does_not_decide_between_equals():
    confidence = np.float32([0.32452092, 0.32452106, 0.32452092, 0.4])
    for noise in (0, -2e-7, 2e-7):
        accepted = lib.accept(confidence + np.float32([0, noise, 0, 0]), np.zeros(4, int), 0.5)
        np.testing.assert_array_equal(accepted, [0, -1, -1, 0])


def test_scope_decides_between_tight_clusters_and_all_clusters():
    confidence = np.array([0.9, 0.8, 0.2, 0.1])
    assignments = np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(
        lib.accept(confidence, assignments, 0.5, "global"), [0, 0, -1, -1]
    )
    np.testing.assert_array_equal(
        lib.accept(confidence, assignments, 0.5, "cluster"), [0, -1, 1, -1]
    )


def test_a_share_that_floats_cannot_hold_counts_right():
    # 0.145 * 100 is 14.499999999999998, but 14.5 rounds up to 15, as half of 5 does to 3.
    assert np.sum(lib.accept(np.arange(100.0), np.zeros(100, int), 0.145) == 0) == 15
    assert np.sum(lib.accept(np.arange(5.0), np.zeros(5, int), 0.5) == 0) == 3


def test_accepted_sets_grow_with_the_rate():
    random = np.random.default_rng(0)
    confidence, assignments = random.random(200), random.integers(0, 9, 200)
    for scope in lib.SCOPES:
        before = np.zeros(200, bool)
        for rate in np.linspace(0, 1, 11):
            after = lib.accept(confidence, assignments, rate, scope) >= 0
            assert not np.any(before & ~after)
            before = after


@pytest.mark.parametrize(("rate", "scope"), [(-0.1, "global"), (1.1, "global"), (0.5, "class")])
def test_accept_refuses(rate, scope):
    with pytest.raises(UserError, match="Received"):
        lib.accept(np.ones(3), np.zeros(3, int), rate, scope)


# --- numbers of clusters -----------------------------------------------------------------------
