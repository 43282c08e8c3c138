"""Clusters of the sharded table against k-means on the whole."""

import numpy as np
import tensorflow as tf

from ifnd_tf.kmeans import RELAXATION, TOLERANCE, initial_centroids, kmeans
from tests import corners


def whole(num_clusters):
    """The same k-means on all points at once."""
    points, index = corners.embed(corners.images()), tf.range(corners.N)
    start = initial_centroids(points, index, num_clusters=num_clusters, seed=0)
    return kmeans(
        points,
        index,
        start,
        num_iterations=5,
        confidence_temperature=0.2,
        tolerance=TOLERANCE,
        relaxation=RELAXATION,
    )


def test_sharded_clusters_equal_those_of_the_whole(strategy):
    clusters = corners.table_clusters(strategy)
    clusters.table.refresh()
    found, expected = clusters.cluster(6, None), whole(6)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-5)
    np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-6)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert found.counts.sum() == corners.N


def test_a_nested_level_keeps_fine_clusters_together(strategy):
    clusters = corners.table_clusters(strategy)
    clusters.table.refresh()
    fine = clusters.cluster(12, None)
    coarse = clusters.coarsen(fine, 4)
    for cluster in range(12):
        assert len(np.unique(coarse.assignments[fine.assignments == cluster])) <= 1
    np.testing.assert_array_equal(coarse.counts, np.bincount(coarse.assignments, minlength=4))
    assert np.all((coarse.confidence >= 0) & (coarse.confidence <= 1))
