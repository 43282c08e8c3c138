"""Mutual nearest neighbours against all similarities, and pairs kept as labels."""

from types import SimpleNamespace

import numpy as np
import pytest

from ifnd_tf.detection.detectors import NeighbourDetector
from ifnd_tf.detection.neighbours import as_levels, mutual_pairs
from tests import reference, tiny
from tests.conftest import make_strategy


def points(count=40, seed=0):
    found = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 4])
def test_pairs_are_those_near_from_both_sides(k):
    given = points()
    cosines = given @ given.T
    np.fill_diagonal(cosines, -2.0)
    near = [set(np.argsort(-row)[:k]) for row in cosines]
    expected = {(i, j) for i in range(40) for j in near[i] if i < j and i in near[j]}
    pairs, similarity = mutual_pairs(given, k)
    assert {tuple(pair) for pair in pairs} == expected and len(pairs) == len(expected)
    assert np.all(np.diff(similarity) <= 0)
    np.testing.assert_allclose(similarity, [cosines[i, j] for i, j in pairs], rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_without_another_example_there_is_no_pair(count):
    pairs, cosines = mutual_pairs(points(count), 3)
    assert pairs.shape == (0, 2) and cosines.shape == (0,)


def test_each_pair_is_in_one_level_and_no_other_pair_is_made():
    pairs, _ = mutual_pairs(points(), 4)
    labels = as_levels(pairs, 7, 40)  # 2 k - 1 levels always have room
    found = [reference.same_pairs(level) for level in labels]
    assert set.union(*found) == {tuple(pair) for pair in pairs}
    assert sum(map(len, found)) == len(pairs)
    few = set.union(*map(reference.same_pairs, as_levels(pairs, 1, 40)))
    assert few < {tuple(pair) for pair in pairs} and tuple(pairs[0]) in few


@pytest.mark.slow
@pytest.mark.distribution
def test_a_rate_that_keeps_no_pair_is_known_beforehand():
    table = SimpleNamespace(num_examples=20)
    detector = NeighbourDetector(table, 3)  # at most 30 pairs
    assert not detector.can_detect(0.01) and detector.can_detect(0.02)


@pytest.mark.slow
def test_a_run_masks_as_many_neighbours_on_one_replica_as_on_two(tmp_path):
    found = {}
    for name in ("default", "mirrored-2"):
        config = tiny.config(
            detector="neighbours", level_combination="union", num_neighbours=3, epochs=2
        )
        model, run = tiny.train(config, make_strategy(name), tmp_path / name)
        found[name] = model.pseudo_labels.numpy(), run.metrics()[-1]
    # Embeddings differ in their last bits, and so the order of pairs, but not what is found.
    for labels, last in found.values():
        assert labels.shape == (3, 160) and last["detection_pairs"] > 50
    first, second = ((labels >= 0).mean() for labels, _ in found.values())
    assert first == pytest.approx(second, abs=0.05)
    assert last["masked_share"] > 0 and last["detection_union_precision"] > 0.15
