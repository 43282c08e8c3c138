"""Every detector of `--detector`, on four obvious classes."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.detection import detectors, metrics
from ifnd_tf.errors import UserError
from tests import corners
from tests.conftest import make_strategy


def test_oracle_gives_the_truth_at_once():
    oracle = detectors.OracleDetector(np.array([0, 1, -1, 1]))
    found = oracle.detect(1.0, corners.no_phase)
    np.testing.assert_array_equal(found.labels, [[0, 1, -1, 1]])
    np.testing.assert_array_equal(found.confidence, [[1, 1, 0, 1]])
    assert not oracle.incremental and oracle.num_levels == 1
    with pytest.raises(UserError, match="data set with labels"):
        detectors.OracleDetector(np.array([-1, -1]))


def test_none_has_nothing_to_detect():
    assert detectors.DETECTORS["none"]().num_levels == 0


def test_an_unknown_name_is_answered_with_those_there_are():
    message = "one of ifnd, neighbours, .* random. Received: 'orcale'. Did you mean oracle"
    with pytest.raises(UserError, match=message):
        Config(detector="orcale")
    (field,) = (f for f in dataclasses.fields(Config) if f.name == "detector")
    assert set(field.metadata["choices"]) == set(detectors.DETECTORS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["default", pytest.param("mirrored-2", marks=pytest.mark.slow)]
)
def test_ifnd_accepts_the_most_confident_and_starts_where_it_ended(strategy):
    clusters = corners.sharded_kmeans(make_strategy(strategy))
    detector = detectors.ClusterDetector(clusters, [2, 4])
    half = detector.detect(0.5, corners.no_phase)
    n = corners.N
    assert half.labels.shape == half.confidence.shape == (2, n)
    np.testing.assert_array_equal(np.sum(half.labels >= 0, axis=1), [n // 2, n // 2])
    for labels, confidence in zip(half.labels, half.confidence, strict=True):
        assert confidence[labels >= 0].min() >= confidence[labels < 0].max()
    everything = detector.detect(1.0, corners.no_phase)
    assert np.all(everything.labels >= 0)
    # A warm start keeps the clusters' names.
    kept = half.labels >= 0
    np.testing.assert_array_equal(everything.labels[kept], half.labels[kept])
    # Four clusters for four corners: the truth, up to names.
    scores = metrics.detection_statistics(everything.labels[1:], corners.TRUE_LABELS)
    assert scores["precision"] == scores["recall"] == 1.0
    assert everything.statistics["clusters"] == [2, 4]
    assert everything.statistics["empty_clusters"] == 0
    np.testing.assert_array_equal(everything.sample.examples, np.arange(n))


@pytest.mark.parametrize(
    ("hierarchy", "total"),
    [pytest.param("independent", 10, marks=pytest.mark.slow), ("nested", 5)],
)
def test_both_phases_count(hierarchy, total):
    counted: dict[str, list[tuple[int, int]]] = {}

    def phase(name):
        counted[name] = []
        return contextlib.nullcontext(lambda done, total: counted[name].append((done, total)))

    kmeans = corners.sharded_kmeans(tf.distribute.get_strategy())  # of 5 iterations
    detectors.ClusterDetector(kmeans, [2, 4], hierarchy=hierarchy).detect(1.0, phase)
    assert list(counted) == ["embedding", "clustering"]
    assert counted["embedding"][-1] == (corners.N, corners.N)
    done = [number for number, _ in counted["clustering"]]
    assert {of for _, of in counted["clustering"]} == {total}
    assert done == sorted(done) and 1 <= done[0] <= done[-1] <= total


def test_nested_levels_agree_and_start_where_they_ended():
    kmeans = corners.sharded_kmeans(tf.distribute.get_strategy())
    detector = detectors.ClusterDetector(kmeans, [2, 3, 4], hierarchy="nested")
    first, second = (detector.detect(1.0, corners.no_phase).labels for _ in range(2))
    assert [len(np.unique(level)) for level in first] == [2, 3, 4]
    for coarse, fine in itertools.pairwise(first):
        for cluster in range(4):
            assert len(np.unique(coarse[fine == cluster])) <= 1
    np.testing.assert_array_equal(second[2], first[2])


@pytest.mark.slow
def test_random_keeps_sizes_and_loses_the_meaning():
    kmeans = corners.sharded_kmeans(tf.distribute.get_strategy(), seed=3)
    true = detectors.ClusterDetector(kmeans, [4]).detect(1.0, corners.no_phase)
    dealt = detectors.PermutedDetector(kmeans, [4]).detect(1.0, corners.no_phase)
    np.testing.assert_array_equal(np.bincount(dealt.labels[0]), np.bincount(true.labels[0]))
    scores = metrics.detection_statistics(dealt.labels, corners.TRUE_LABELS)
    assert scores["precision"] < 0.5
