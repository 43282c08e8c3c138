"""Health measures against closed forms; warnings that say what is wrong."""

import math

import numpy as np
import pytest

from ifnd_tf.evaluation.collapse import (
    LIMITS,
    collapse_measures,
    effective_rank,
    embedding_std,
    limit_warnings,
    training_warnings,
    uniformity,
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


def test_health_normalises_and_warns_of_a_collapse_only():
    spread = dict(collapse_measures(5 * _sphere(300, 16)))
    assert limit_warnings(spread) == []
    collapsed = dict(collapse_measures(np.ones([300, 16]) + 0.01 * _sphere(300, 16)))
    texts = limit_warnings(collapsed)
    assert len(texts) == 3
    assert texts[0].startswith("Embedding std") and "collapse" in texts[0]


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_each_range_warns_on_its_side_and_not_inside(name):
    limit = LIMITS[name]
    beyond = 0.05 if limit.upper else -0.05
    side = "above" if limit.upper else "below"
    (text,) = limit_warnings({f"detection_{name}": limit.value + beyond})
    assert f" is {side} {limit.value:g}: " in text
    assert limit_warnings({name: limit.value - beyond}) == []


def test_a_value_that_is_not_finite_is_a_warning_and_unknown_names_are_not():
    assert limit_warnings({"uniformity": math.nan}) == ["Uniformity is nan: the run has diverged."]
    assert limit_warnings({"knn_top1": math.nan}) == []


# After each epoch, of runs of main.py: digits, two seeds; own photographs; CIFAR-10 in few steps.
HEALTHY = [
    ("embedding_std", [0.25, 0.27, 0.32, 0.38, 0.45, 0.51, 0.59]),
    ("uniformity", [-0.25, -0.29, -0.39, -0.55, -0.74, -0.96, -1.23]),
    ("uniformity", [-0.37, -0.45, -0.61, -0.81, -1.02]),
    ("embedding_std", [0.42, 0.48, 0.55, 0.56]),
    ("embedding_std", [0.24, 0.30, 0.38, 0.45, 0.47, 0.49]),
]


@pytest.mark.parametrize(("name", "values"), HEALTHY)
def test_what_healthy_runs_begin_with_is_no_collapse(name, values):
    for count in range(1, len(values) + 1):
        assert training_warnings(f"health_{name}", values[:count], False) == []


@pytest.mark.parametrize(
    ("values", "epoch"),
    [
        ([0.28, 0.05, 0.001, 0.0, 0.0], 5),  # within the first epochs
        ([0.28, 0.28, 0.29, 0.28, 0.29], 5),  # learns nothing
        ([0.6, 0.8, 0.9, 0.9, 0.45], 5),  # after a good start
        ([0.6, math.nan], 2),
    ],
)
def test_a_collapse_is_a_warning_when_it_shows(values, epoch):
    found = [
        bool(training_warnings("embedding_std", values[:n], False))
        for n in range(1, len(values) + 1)
    ]
    assert found.index(True) + 1 == epoch


def test_views_that_are_unlike_are_judged_in_the_end():
    values = [0.12, 1.56, 1.58, 1.7, 1.6]
    assert training_warnings("health_alignment", values, False) == []
    assert len(training_warnings("health_alignment", values, True)) == 1


def test_an_encoder_is_judged_beside_an_untrained_one():
    untrained, trained = {"health_embedding_std": 0.25}, {"health_embedding_std": 0.35}
    assert len(limit_warnings(trained)) == 1
    assert limit_warnings(trained, before=untrained) == []  # trained for a short time
    assert len(limit_warnings({"health_embedding_std": 0.01}, before=untrained)) == 1
    assert len(limit_warnings(untrained, before=untrained)) == 1
    assert len(limit_warnings({"health_embedding_std": math.nan}, before=untrained)) == 1
