"""The sharded table against the embeddings of all images at once."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.detection.detectors import ClusterDetector, NeighbourDetector
from ifnd_tf.detection.embeddings import GivenRows, ImagePass
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.errors import UserError
from tests import corners
from tests.conftest import make_strategy


def many(strategy, count, width, batch=500):
    """A table of random unit vectors, on one replica or two, and these vectors."""
    points = np.random.default_rng(0).normal(size=[count, width]).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    steps = -(-count // (batch * strategy.num_replicas_in_sync))

    def one_pass():
        index = np.arange(count, dtype=np.int32)
        data = tf.data.Dataset.from_tensor_slices({"index": index, "images": points})
        return strategy.distribute_datasets_from_function(lambda context: data.batch(batch))

    table = ImagePass(
        strategy, one_pass, tf.identity, num_examples=count, rows=steps * batch,
        batch_size=batch, width=width,
    )  # fmt: skip
    return table, points


def test_a_sample_is_2048_of_the_examples_own_embeddings(strategy):
    table, points = many(strategy, 3000, 4)
    table.refresh()
    sample = table.sample()
    assert len(sample.examples) == 2048 and np.all(np.diff(sample.examples) > 0)
    np.testing.assert_array_equal(sample.points, points[sample.examples])


def test_a_sample_of_more_than_there_are_is_all():
    table = corners.table(tf.distribute.get_strategy())
    table.refresh()
    np.testing.assert_array_equal(table.sample().examples, np.arange(corners.N))


def test_embeddings_that_are_not_finite_are_counted():
    table = corners.table(tf.distribute.get_strategy(), lambda batch: corners.embed(batch) * np.nan)
    with pytest.raises(UserError, match=f"{corners.N} of {corners.N} examples"):  # no padding
        table.refresh()


@pytest.mark.slow
@pytest.mark.distribution
def test_neither_the_host_nor_a_replica_ever_holds_all_embeddings(monkeypatch):
    most, width = 6000, 32
    strategy, seen = make_strategy("mirrored-2"), []
    reduce, fetch = tf.distribute.ReplicaContext.all_reduce, type(tf.constant(0)).numpy

    def noted(size):
        seen.append(size)

    def all_reduce(context, operation, value, options=None):
        noted(value.shape.num_elements())
        return reduce(context, operation, value, options)

    def numpy(tensor):
        value = fetch(tensor)
        noted(np.size(value))
        return value

    table, _ = many(strategy, most, width)
    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", all_reduce)
    monkeypatch.setattr(type(tf.constant(0)), "numpy", numpy)
    detector = ClusterDetector(ShardedKMeans(table, iterations=2), [4])
    found = detector.detect(1.0, corners.no_phase)
    assert np.all(found.labels >= 0)
    # Of each example its label came to the host, and of the largest sample its embeddings.
    assert most <= max(seen) < most * width


def given(strategy) -> tuple[GivenRows, np.ndarray]:
    """Rows of 7 examples, an odd number, of which the third has none."""
    points = np.random.default_rng(0).normal(size=[7, 4]).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[2] = 0.0
    return GivenRows(strategy, points, seed=0), points


def test_given_rows_are_dealt_out_once(strategy):
    table, points = given(strategy)
    table.refresh()
    table.refresh()
    found, examples = table.everything()
    assert examples.tolist() == [0, 1, 3, 4, 5, 6]
    np.testing.assert_array_equal(found, points[examples])
    assert table.rows * strategy.num_replicas_in_sync < 7 + strategy.num_replicas_in_sync


@pytest.mark.slow
def test_clusters_of_given_rows_stay_and_only_their_accepted_share_grows(strategy):
    kmeans = ShardedKMeans(given(strategy)[0], iterations=1)
    detector = ClusterDetector(kmeans, [2, 3], hierarchy="nested")
    first, second = (detector.detect(rate, corners.no_phase) for rate in (0.5, 1.0))
    np.testing.assert_array_equal(first.confidence, second.confidence)
    accepted = first.labels >= 0
    np.testing.assert_array_equal(first.labels[accepted], second.labels[accepted])
    assert second.labels[0].tolist().count(-1) == 1 and second.labels[0, 2] == -1
    assert accepted.sum() < (second.labels >= 0).sum()


def test_neighbours_of_given_rows_are_searched_once(monkeypatch):
    detector = NeighbourDetector(given(tf.distribute.get_strategy())[0], 1)
    first = detector.detect(1.0, corners.no_phase)
    monkeypatch.setattr(detector.table, "everything", None)
    second = detector.detect(1.0, corners.no_phase)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert np.any(first.labels >= 0)
