"""Metrics of detection against brute force over all pairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from ifnd_tf.detection import metrics as lib
from ifnd_tf.errors import UserError
from tests import reference

S = 30


def random_labels(seed, levels, n, classes=4):
    return np.random.default_rng(seed).integers(-1, classes, (levels, n)).astype(np.int32)


# --- detection ------------------------------------------------------------------------------


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 3), n=st.integers(2, 25))
def test_detection_equals_brute_force_over_all_pairs(seed, levels, n):
    found = random_labels(seed, levels, n)
    truth = random_labels(seed + 1, 1, n, classes=3)[0]
    truth[0] = 0  # At least one known label.
    result = lib.detection_statistics(found, truth)
    # Where the class is unknown a pair can be neither right nor wrong.
    known = [np.where(truth >= 0, labels, -1) for labels in found]
    relevant = reference.same_pairs(truth)
    expected = [scores(level, relevant) for level in known]
    union = scores(known, relevant)
    for i, name in enumerate(("precision", "recall", "f1")):
        assert result[f"level_{name}"] == pytest.approx([e[i] for e in expected], abs=1e-12)
        measured = [e[i] for e in expected if e[i] is not None]
        mean = pytest.approx(np.mean(measured)) if measured else None
        assert result[name] == mean
        assert result[f"union_{name}"] == pytest.approx(union[i], abs=1e-12)
    count = np.count_nonzero(truth >= 0)
    chance = len(relevant) / (count * (count - 1) / 2) if count > 1 else None
    assert result["chance_precision"] == chance


def scores(labels, relevant):
    """Precision, recall and F1 of pairs; None where there is nothing to measure."""
    pairs = set().union(*(reference.same_pairs(level) for level in np.atleast_2d(labels)))
    precision, recall, f1 = reference.pair_scores(pairs, relevant)
    measured = bool(relevant) and bool(np.any(np.asarray(labels) >= 0))
    return precision if pairs else None, recall if measured else None, f1 if measured else None


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
        assert nothing[name] == (0.0 if name == "accepted" else None)
    assert nothing["level_precision"] == [None, None]
    assert perfect["chance_precision"] == pytest.approx(2 / 6)  # of 6 pairs, 01 and 23


def test_statistics_are_numbers_or_one_number_per_level():
    result = lib.detection_statistics(random_labels(0, 3, 20), random_labels(1, 1, 20)[0])
    for name, value in result.items():
        assert len(value) == 3 if name.startswith("level_") else isinstance(value, float | None)


def test_detection_at_the_size_of_imagenet_counts_pairs_without_overflow():
    n = 1_281_167
    result = lib.detection_statistics(np.zeros((1, n), np.int32), np.arange(n) % 2)
    ones, zeros = n // 2, n - n // 2
    right = ones * (ones - 1) / 2 + zeros * (zeros - 1) / 2
    assert result["precision"] == pytest.approx(right / (n * (n - 1) / 2), rel=1e-12)
    assert result["recall"] == 1.0


def test_groups_of_many_levels_of_many_clusters_are_counted_without_overflow():
    # Together the columns tell 2**80 groups apart; 64 bits would lose the first column.
    largest = (1 << 20) - 1
    columns = [np.array([0, 1, 1, largest])] + 3 * [np.array([5, 5, 5, largest])]
    assert sorted(lib._group_sizes(*columns)) == [1, 1, 2]


def test_detection_needs_true_labels():
    with pytest.raises(UserError, match="Received: none"):
        lib.detection_statistics(np.zeros((1, 3), np.int32), np.full(3, -1))


# --- churn ----------------------------------------------------------------------------------


@settings(max_examples=50)
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


# --- beside nearest neighbours --------------------------------------------------------------


def case(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 3, S)
    points = rng.normal(size=(S, 4)) + 2 * np.eye(4)[truth]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), rng.integers(-1, 5, (2, S)), truth


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_walk_over_all_pairs(seed):
    points, labels, truth = case(seed)
    pairs = [(i, j) for i, j in itertools.combinations(range(S), 2) if min(truth[[i, j]]) >= 0]
    nearest = sorted(pairs, key=lambda pair: -float(points[pair[0]] @ points[pair[1]]))
    found = lib.neighbour_statistics(points, labels, truth)
    for level in range(2):
        detected = [p for p in pairs if labels[level, p[0]] == labels[level, p[1]] >= 0]
        assert found["level_sampled_pairs"][level] == len(detected) > 10
        for name, chosen in (("sampled", detected), ("neighbour", nearest[: len(detected)])):
            expected = np.mean([truth[i] == truth[j] for i, j in chosen])
            assert found[f"level_{name}_precision"][level] == pytest.approx(expected)
    assert found["neighbour_precision"] == pytest.approx(
        np.mean(found["level_neighbour_precision"])
    )


def test_a_level_without_a_pair_has_no_precision():
    points, labels, truth = case(0)
    labels[0] = -1
    found = lib.neighbour_statistics(points, labels, truth)
    assert found["level_neighbour_precision"][0] is found["level_sampled_precision"][0] is None
    assert found["sampled_precision"] == found["level_sampled_precision"][1]
    assert "neighbour_precision" not in lib.neighbour_statistics(points, labels * 0 - 1, truth)
