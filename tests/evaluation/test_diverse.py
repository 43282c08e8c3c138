"""Greedy k-centre: what it chooses, against the definition."""

import numpy as np
import pytest

from ifnd_tf.evaluation.diverse import k_center


def test_each_choice_is_the_farthest_from_those_before():
    points = np.random.default_rng(0).normal(size=[60, 5])
    counts: list[tuple[int, int]] = []
    chosen, radii = k_center(points, 20, lambda done, total: counts.append((done, total)))
    assert counts == [(number, 20) for number in range(1, 21)]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert chosen[0] == np.argmin(np.linalg.norm(points - points.mean(0), axis=1))
    assert np.isinf(radii[0])
    for number in range(1, 20):
        nearest = distances[:, chosen[:number]].min(1)
        assert chosen[number] == np.argmax(nearest)
        assert radii[number] == pytest.approx(nearest.max(), rel=1e-4)


def test_copies_come_last_and_once():
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    chosen, radii = k_center(points, 12)
    assert sorted(chosen) == list(range(12))
    assert set(chosen[:3] // 4) == {0, 1, 2} and (radii[3:] < 1e-3).all()


def test_one_point_of_one():
    chosen, radii = k_center(np.ones([1, 2], np.float32), 1)
    assert chosen.tolist() == [0] and np.isinf(radii).all()
