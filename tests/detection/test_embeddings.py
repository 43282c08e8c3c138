"""The sharded table against the embeddings of all images at once."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.detection.detectors import ClusterDetector
from ifnd_tf.detection.embeddings import ImagePass
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.errors import UserError
from tests import corners
from tests.conftest import make_strategy


def many(strategy, count, width, batch=500):
    """A table of random unit vectors, on one replica or two, and these vectors."""
    points = np.random.default_rng(0).normal(size=[count, width]).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    replicas = strategy.num_replicas_in_sync

    def one_pass():
        index = np.arange(count, dtype=np.int32)
        data = tf.data.Dataset.from_tensor_slices({"index": index, "images": points})
        return strategy.distribute_datasets_from_function(lambda context: data.batch(batch))

    table = ImagePass(
        strategy, one_pass, tf.identity, num_examples=count, rows=count // replicas,
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
