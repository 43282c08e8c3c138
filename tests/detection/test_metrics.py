"""Detected pairs beside nearest-neighbour pairs, against a loop over all pairs."""

import itertools

import numpy as np
import pytest

from ifnd_tf.detection.metrics import neighbour_statistics

S = 30


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
    found = neighbour_statistics(points, labels, truth)
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
    found = neighbour_statistics(points, labels, truth)
    assert found["level_neighbour_precision"][0] is found["level_sampled_precision"][0] is None
    assert found["sampled_precision"] == found["level_sampled_precision"][1]
    assert "neighbour_precision" not in neighbour_statistics(points, labels * 0 - 1, truth)
