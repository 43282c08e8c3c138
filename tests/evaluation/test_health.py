"""Health measures against closed forms; warnings that say what is wrong."""

import math

import numpy as np
import pytest

from ifnd_tf.evaluation.health import (
    RANGES,
    alignment,
    effective_rank,
    embedding_std,
    health,
    uniformity,
    warnings,
)


def _sphere(count, width, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_embedding_std_is_one_when_spread_and_zero_when_collapsed():
    assert embedding_std(_sphere(5000, 16)) == pytest.approx(1, abs=0.01)
    assert embedding_std(np.repeat(_sphere(1, 16), 50, axis=0)) == pytest.approx(0, abs=1e-6)
    # Two opposite poles have mean 0: sqrt(1 - 0) = 1. Poles at 90 degrees: |mean|^2 = 1/2.
    assert embedding_std(np.eye(2, dtype=np.float32)) == pytest.approx(math.sqrt(0.5))


def test_effective_rank_of_known_spectra():
    # k equal singular values have entropy ln k.
    assert effective_rank(np.eye(7, 16)) == pytest.approx(7)
    assert effective_rank(np.ones([50, 8])) == pytest.approx(1)
    assert effective_rank(np.zeros([5, 3])) == 0
    # Singular values 3 and 1: shares 3/4 and 1/4.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(math.exp(entropy))


def test_uniformity_of_known_configurations():
    assert uniformity(np.repeat(_sphere(1, 8), 20, axis=0)) == pytest.approx(0, abs=1e-5)
    # Two opposite points: distance squared 4, so log e^-8.
    assert uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    # Orthogonal points: distance squared 2, so log e^-4; own pairs do not count.
    assert uniformity(np.eye(9)) == pytest.approx(-4)


def test_uniformity_of_a_sample_nears_that_of_all():
    # Of 6000 points 4096 are taken. |x - y|^2 = 2 - 2 c, and on the sphere in d = 32 dimensions
    # E c^2 = 1/d and E c^4 = 3/(d (d + 2)), so E exp(4 c) = 1 + 8/32 + (4^4/24) 3/(32 34) + ...
    expected = -4 + math.log(1 + 8 / 32 + 4**4 / 24 * 3 / (32 * 34))
    assert uniformity(_sphere(6000, 32)) == pytest.approx(expected, abs=0.01)


def test_alignment_by_hand():
    one, other = np.eye(2), np.array([[1.0, 0], [1, 0]])
    assert alignment(one, other) == pytest.approx((0 + 2) / 2)


def test_health_normalises_and_warns_of_a_collapse_only():
    spread = dict(health(5 * _sphere(300, 16), 3 * _sphere(300, 16)))
    assert spread["health_alignment"] == pytest.approx(0, abs=1e-5)
    assert warnings(spread) == []
    collapsed = dict(health(np.ones([300, 16]) + 0.01 * _sphere(300, 16)))
    assert "health_alignment" not in collapsed
    texts = warnings(collapsed)
    assert len(texts) == 3
    assert texts[0].startswith("Embedding std") and "collapse" in texts[0]


@pytest.mark.parametrize("name", sorted(RANGES))
def test_each_range_warns_on_its_side_and_not_inside(name):
    low, high = RANGES[name].low, RANGES[name].high
    if RANGES[name].below:
        assert len(warnings({name: low - 0.1})) == 1
        assert warnings({name: low + 0.1}) == []
    if RANGES[name].above:
        assert len(warnings({f"detection_{name}": high + 0.05})) == 1
        assert warnings({name: high - 0.1}) == []
    assert RANGES[name].below or RANGES[name].above


def test_a_value_that_is_not_finite_is_a_warning_and_unknown_names_are_not():
    assert warnings({"uniformity": math.nan}) == ["Uniformity is nan: the run has diverged."]
    assert warnings({"knn_top1": math.nan}) == []
