"""Acceptance and detection statistics against brute force over all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from ifnd_tf.detection import pseudo_labels as lib
from ifnd_tf.errors import UserError
from tests import reference

# Few different values, so that ties are the rule.
CONFIDENCES = st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=30)


def random_labels(seed, levels, n, classes=4):
    return np.random.default_rng(seed).integers(-1, classes, (levels, n)).astype(np.int32)


# --- acceptance -----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
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
        reference.accept(confidence, assignments, rate, scope),
    )


@pytest.mark.parametrize("scope", lib.SCOPES)
def test_none_at_zero_and_all_assigned_at_one(scope):
    confidence, assignments = np.full(7, 0.5), np.array([0, 1, -1, 1, 2, 0, 0])
    assert not lib.accept(confidence, assignments, 0.0, scope).any()
    np.testing.assert_array_equal(lib.accept(confidence, assignments, 1.0, scope), assignments >= 0)


def test_the_most_confident_come_first_and_ties_go_to_the_lower_index():
    confidence = np.array([0.2, 0.9, 0.5, 0.5, 0.5])
    accepted = lib.accept(confidence, np.zeros(5, int), 0.6)  # 3 of 5
    np.testing.assert_array_equal(accepted, [False, True, True, True, False])


def test_rounding_does_not_decide_between_equals():
    confidence = np.float32([0.32452092, 0.32452106, 0.32452092, 0.4])
    for noise in (0, -2e-7, 2e-7):
        accepted = lib.accept(confidence + np.float32([0, noise, 0, 0]), np.zeros(4, int), 0.5)
        np.testing.assert_array_equal(accepted, [True, False, False, True])


def test_scope_decides_between_tight_clusters_and_all_clusters():
    confidence = np.array([0.9, 0.8, 0.2, 0.1])
    assignments = np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(
        lib.accept(confidence, assignments, 0.5, "global"), [True, True, False, False]
    )
    np.testing.assert_array_equal(
        lib.accept(confidence, assignments, 0.5, "cluster"), [True, False, True, False]
    )


def test_a_share_that_floats_cannot_hold_counts_right():
    # 0.145 * 100 is 14.499999999999998, but 14.5 rounds up to 15, as half of 5 does to 3.
    assert lib.accept(np.arange(100.0), np.zeros(100, int), 0.145).sum() == 15
    assert lib.accept(np.arange(5.0), np.zeros(5, int), 0.5).sum() == 3


def test_accepted_sets_grow_with_the_rate():
    random = np.random.default_rng(0)
    confidence, assignments = random.random(200), random.integers(0, 9, 200)
    for scope in lib.SCOPES:
        before = np.zeros(200, bool)
        for rate in np.linspace(0, 1, 11):
            after = lib.accept(confidence, assignments, rate, scope)
            assert not np.any(before & ~after)
            before = after


@pytest.mark.parametrize(("rate", "scope"), [(-0.1, "global"), (1.1, "global"), (0.5, "class")])
def test_accept_refuses(rate, scope):
    with pytest.raises(UserError, match="Received"):
        lib.accept(np.ones(3), np.zeros(3, int), rate, scope)


def test_assign_and_sizes():
    labels = lib.assign(np.array([3, 1, 1, 0]), np.array([True, False, True, True]))
    np.testing.assert_array_equal(labels, [3, -1, 1, 0])
    assert labels.dtype == np.int32
    # The last cluster is counted even when it is empty.
    np.testing.assert_array_equal(lib.cluster_sizes(labels, 5), [1, 1, 0, 1, 0])


# --- detection ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 3), n=st.integers(2, 25))
def test_detection_equals_brute_force_over_all_pairs(seed, levels, n):
    found = random_labels(seed, levels, n)
    truth = random_labels(seed + 1, 1, n, classes=3)[0]
    truth[0] = 0  # At least one known label.
    result = lib.detection_statistics(found, truth)
    # Where the class is unknown a pair can be neither right nor wrong.
    known = [np.where(truth >= 0, labels, -1) for labels in found]
    relevant = reference.same_pairs(truth)
    expected = [reference.pair_scores(reference.same_pairs(level), relevant) for level in known]
    union = set().union(*(reference.same_pairs(level) for level in known))
    for i, name in enumerate(("precision", "recall", "f1")):
        np.testing.assert_allclose(result[f"level_{name}"], [e[i] for e in expected], atol=1e-12)
        np.testing.assert_allclose(result[name], np.mean([e[i] for e in expected]), atol=1e-12)
        np.testing.assert_allclose(
            result[f"union_{name}"], reference.pair_scores(union, relevant)[i], atol=1e-12
        )


def test_detection_by_hand():
    truth = np.array([0, 0, 0, 1, 1, -1])
    found = np.array([[5, 5, -1, 5, 7, 7]], np.int32)
    result = lib.detection_statistics(found, truth)
    # Detected: 01, 03, 13, of which 01 is right. Relevant: 01, 02, 12, 34.
    assert result["precision"] == pytest.approx(1 / 3)
    assert result["recall"] == pytest.approx(1 / 4)
    assert result["f1"] == pytest.approx(2 / 7)
    # Accepted and known: 0, 1, 3, 4 with clusters 5 5 5 7: majorities 2 of 3 and 1 of 1.
    assert result["accepted"] == pytest.approx(4 / 5)
    assert result["purity"] == pytest.approx(3 / 4)
    assert result["nmi"] == pytest.approx(normalized_mutual_info_score([0, 0, 1, 1], [5, 5, 5, 7]))


def test_perfect_and_absent_detection():
    truth = np.array([0, 0, 1, 1])
    perfect = lib.detection_statistics(np.array([[9, 9, 4, 4]]), truth)
    nothing = lib.detection_statistics(np.full((2, 4), -1), truth)
    for name in ("precision", "recall", "f1", "union_f1", "nmi", "purity", "accepted"):
        assert perfect[name] == pytest.approx(1.0)
        assert nothing[name] == 0.0


def test_statistics_are_numbers_or_one_number_per_level():
    result = lib.detection_statistics(random_labels(0, 3, 20), random_labels(1, 1, 20)[0])
    for name, value in result.items():
        assert len(value) == 3 if name.startswith("level_") else isinstance(value, float)


def test_detection_at_the_size_of_imagenet_counts_pairs_without_overflow():
    n = 1_281_167
    result = lib.detection_statistics(np.zeros((1, n), np.int32), np.arange(n) % 2)
    ones, zeros = n // 2, n - n // 2
    right = ones * (ones - 1) / 2 + zeros * (zeros - 1) / 2
    assert result["precision"] == pytest.approx(right / (n * (n - 1) / 2), rel=1e-12)
    assert result["recall"] == 1.0


def test_detection_needs_true_labels():
    with pytest.raises(UserError, match="Received: none"):
        lib.detection_statistics(np.zeros((1, 3), np.int32), np.full(3, -1))


# --- churn ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 20))
def test_churn_equals_brute_force_and_ignores_names(seed, n):
    old, new = random_labels(seed, 2, n)
    before, after = reference.same_pairs(old), reference.same_pairs(new)
    either = before | after
    expected = 1 - len(before & after) / len(either) if either else 0.0
    assert lib.label_churn(old, new) == pytest.approx(expected)
    renamed = np.where(new >= 0, (new + 1) % 4, -1)
    assert lib.label_churn(old, renamed) == pytest.approx(expected)


def test_churn_is_the_mean_over_levels():
    old = np.array([[0, 0, 1, 1], [0, 0, -1, -1]])
    new = np.array([[1, 1, 0, 0], [-1, -1, 0, 0]])
    assert lib.label_churn(old, new) == pytest.approx(0.5)  # Nothing, and everything.


# --- numbers of clusters -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "n", "expected"),
    [
        ("10,20,40", 1500, [10, 20, 40]),
        (" 10, 20 ", 1500, [10, 20]),
        ("1%,2.5%", 1000, [10, 25]),
        ("10,5%", 1000, [10, 50]),
        ("1000", 1000, [1000]),
        ("auto", 50_000, [100, 200, 400]),  # .2, .4 and .8 percent
        ("auto", 1_281_167, [2562, 5124, 10248]),
        ("auto", 100_000_000, [25_000, 50_000, 100_000]),  # kept at PCL's
        ("auto", 1000, [10, 20, 40]),  # kept at 10 or more
        ("auto", 40, [5, 10, 20]),  # N / 8
    ],
)
def test_numbers_of_clusters(spec, n, expected):
    assert lib.resolve_num_clusters(spec, n) == expected


@pytest.mark.parametrize(
    ("spec", "n", "message"),
    [
        ("1,10", 100, "2 or more"),
        ("0", 100, "2 or more"),
        ("0.1%", 100, "2 or more"),
        ("10,200", 100, "K=200"),
        ("20,10", 100, "ascend"),
        ("10,10", 100, "ascend"),
        ("", 100, "whole numbers"),
        ("10,,20", 100, "whole numbers"),
        ("ten", 100, "'ten'"),
        ("nan%", 100, "'nan%'"),
        ("inf%", 100, "'inf%'"),
        ("auto", 8, "2 or more"),
    ],
)
def test_numbers_of_clusters_refused(spec, n, message):
    with pytest.raises(UserError, match=message) as caught:
        lib.resolve_num_clusters(spec, n)
    assert "Received:" in str(caught.value) and "\n" not in str(caught.value)
