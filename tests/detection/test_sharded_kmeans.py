"""Clusters of the sharded table against k-means on the whole."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.clustering import initialization
from ifnd_tf.clustering.kmeans import initial_centroids, kmeans
from ifnd_tf.detection import sharded_kmeans
from ifnd_tf.errors import UserError
from tests import corners
from tests.conftest import make_strategy


def whole(num_clusters):
    """The same k-means on all points at once."""
    points, index = corners.embed(corners.images()), tf.range(corners.N)
    start = initial_centroids(points, index, num_clusters=num_clusters, seed=0)
    return kmeans(points, index, start, num_iterations=5, confidence_temperature=0.2)


def test_sharded_clusters_equal_those_of_the_whole(strategy):
    clusters = corners.sharded_kmeans(strategy)
    clusters.table.refresh()
    found, expected = clusters.cluster(6, None), whole(6)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-5)
    np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-6)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert found.counts.sum() == corners.N


@pytest.mark.slow
@pytest.mark.parametrize(
    "replicas", ["default", pytest.param("mirrored-2", marks=pytest.mark.slow)]
)
def test_a_nested_level_keeps_fine_clusters_together(replicas):
    clusters = corners.sharded_kmeans(make_strategy(replicas))
    clusters.table.refresh()
    fine = clusters.cluster(12, None)
    coarse = clusters.coarsen(fine, 4)
    for cluster in range(12):
        assert len(np.unique(coarse.assignments[fine.assignments == cluster])) <= 1
    np.testing.assert_array_equal(coarse.counts, np.bincount(coarse.assignments, minlength=4))
    assert np.all((coarse.confidence >= 0) & (coarse.confidence <= 1))


@pytest.mark.slow
def test_unused_fine_centroids_are_nobodys_parents():
    clusters = corners.sharded_kmeans(tf.distribute.get_strategy())
    clusters.table.refresh()
    fine = clusters.cluster(4, None)
    unused = tf.fill([2, corners.WIDTH], initialization.UNUSED)
    padded = fine._replace(
        centroids=tf.concat([fine.centroids, unused], 0), counts=np.append(fine.counts, [0, 0])
    )
    found, expected = clusters.coarsen(padded, 2), clusters.coarsen(fine, 2)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-6)
    assert np.all(found.counts > 0)


@pytest.mark.faults
@pytest.mark.parametrize(
    "replicas", ["default", pytest.param("mirrored-2", marks=pytest.mark.slow)]
)
def test_where_memory_runs_out_fewer_rows_are_taken_at_a_time(replicas, monkeypatch):
    said = []
    plenty = corners.sharded_kmeans(make_strategy(replicas))
    scanty = corners.sharded_kmeans(make_strategy(replicas), report=said.append)
    plenty.table.refresh()
    start = plenty.cluster(12, None).centroids
    expected = plenty.cluster(12, start)
    corners.scarce(monkeypatch, most=13)
    monkeypatch.setattr(sharded_kmeans, "LEAST_CHUNK", 2)
    scanty.table.refresh()
    found = scanty.cluster(12, start)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-5)
    # 48 rows, or 24 on each of two replicas, halved until they fit, once for all iterations.
    assert said[-1] == (
        "clustering: memory ran out at 24 rows at a time; continuing with 12, which is slower"
    )
    assert len(said) == (2 if replicas == "default" else 1)
    # A coarser level has K, and memory, of its own.
    scanty.coarsen(found, 4)
    assert len(said) == (4 if replicas == "default" else 2)


@pytest.mark.faults
def test_where_no_rows_fit_the_flag_is_named(monkeypatch):
    corners.scarce(monkeypatch, most=0)
    clusters = corners.sharded_kmeans(tf.distribute.get_strategy())
    clusters.table.refresh()
    with pytest.raises(UserError, match="--num_clusters: expected clusters that fit in memory"):
        clusters.cluster(6, tf.constant(corners.embed(corners.images()))[:6])
