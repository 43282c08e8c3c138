"""Odd ones out against a search by loops."""

import numpy as np
import pytest

from ifnd_tf.evaluation import odd
from ifnd_tf.evaluation.odd import oddness


def points(count: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=[count, 4]).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_it_is_one_less_the_mean_cosine_to_the_five_nearest_others(monkeypatch):
    monkeypatch.setattr(odd, "ROWS", 7)  # several parts
    embedding = points(20)
    expected = [
        1 - np.mean(sorted(float(a @ b) for j, b in enumerate(embedding) if j != i)[-5:])
        for i, a in enumerate(embedding)
    ]
    counts: list[tuple[int, int]] = []
    found = oddness(embedding, progress=lambda done, total: counts.append((done, total)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert counts == [(7, 20), (14, 20), (20, 20)]


def test_an_outlier_is_the_oddest_also_among_a_sample(monkeypatch):
    monkeypatch.setattr(odd, "AMONG", 30)
    embedding = np.tile([1.0, 0.1, 0.0, 0.0], [50, 1]) + 0.01 * points(50)
    embedding[17] = [-1.0, 0.0, 0.0, 0.0]
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    assert oddness(embedding.astype(np.float32)).argmax() == 17


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_are_no_trouble(count):
    assert oddness(points(count)).shape == (count,)
