"""The sharded table and the detectors on it, against k-means on the whole."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf import pseudo_labels, seeding
from ifnd_tf.detectors import Incremental, Oracle, Permuted, Plain
from ifnd_tf.embedding_table import EmbeddingTable
from ifnd_tf.errors import UserError
from ifnd_tf.kmeans import kmeans

N, BATCH, SIDE = 44, 8, 2
WIDTH = SIDE * SIDE * 3


def images():
    """[N, 2, 2, 3] around four far corners."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2, (4, WIDTH)) * 200
    noise = rng.integers(0, 40, (N, WIDTH))
    return (corners[np.arange(N) % 4] + noise).astype(np.uint8).reshape(N, SIDE, SIDE, 3)


def embed(batch):
    return tf.math.l2_normalize(tf.reshape(tf.cast(batch, tf.float32), [-1, WIDTH]), axis=-1)


def make(strategy, **options):
    """A table and a function that makes one pass over all images, dealt out to the replicas."""
    replicas = strategy.num_replicas_in_sync
    size = BATCH // replicas
    steps = -(-N // BATCH)
    index = np.full(steps * BATCH, -1, np.int32)
    index[:N] = np.random.default_rng(1).permutation(N)  # the order is not the index
    pixels = images()[np.maximum(index, 0)]

    def passes():
        data = tf.data.Dataset.from_tensor_slices({"index": index, "images": pixels})
        batches = data.batch(size, drop_remainder=True)
        return strategy.distribute_datasets_from_function(lambda context: batches)

    table = EmbeddingTable(
        strategy, embed, num_examples=N, rows=steps * size, batch_size=size, width=WIDTH,
        **{"iterations": 5, **options},
    )  # fmt: skip
    return table, passes


def whole(num_clusters):
    """The same k-means on all points at once."""
    points, index = embed(images()), tf.range(N)
    start = seeding.initial_centroids(points, index, num_clusters=num_clusters, seed=0)
    return kmeans(points, index, start, num_iterations=5, confidence_temperature=0.2)


def test_sharded_clusters_equal_those_of_the_whole(strategy):
    table, passes = make(strategy)
    table.fill(passes())
    found, expected = table.cluster(6, None), whole(6)
    np.testing.assert_array_equal(found.assignments, expected.assignments)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-5)
    np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-6)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert found.counts.sum() == N


def test_a_nested_level_keeps_fine_clusters_together(strategy):
    table, passes = make(strategy)
    table.fill(passes())
    fine = table.cluster(12, None)
    coarse = table.coarsen(fine, 4)
    for cluster in range(12):
        assert len(np.unique(coarse.assignments[fine.assignments == cluster])) <= 1
    np.testing.assert_array_equal(coarse.counts, np.bincount(coarse.assignments, minlength=4))
    assert np.all((coarse.confidence >= 0) & (coarse.confidence <= 1))


def test_embeddings_that_are_not_finite_are_counted():
    table, _ = make(tf.distribute.get_strategy())
    table.embed = lambda batch: embed(batch) * np.nan
    batch = {"images": images()[:BATCH], "index": np.arange(BATCH, dtype=np.int32)}
    with pytest.raises(UserError, match=f"{BATCH} of {N} examples"):
        table.fill([batch])


def no_phase(name):
    return contextlib.nullcontext()


def test_incremental_accepts_the_surest_and_starts_where_it_ended(strategy):
    table, passes = make(strategy)
    detector = Incremental(table, lambda: table.fill(passes()), num_clusters=[2, 4])
    half = detector.detect(0.5, no_phase)
    assert half.labels.shape == half.confidence.shape == (2, N)
    np.testing.assert_array_equal(np.sum(half.labels >= 0, axis=1), [N // 2, N // 2])
    for labels, confidence in zip(half.labels, half.confidence, strict=True):
        assert confidence[labels >= 0].min() >= confidence[labels < 0].max()
    everything = detector.detect(1.0, no_phase)
    assert np.all(everything.labels >= 0)
    # A warm start keeps the clusters' names.
    kept = half.labels >= 0
    np.testing.assert_array_equal(everything.labels[kept], half.labels[kept])
    # Four clusters for four corners: the truth, up to names.
    scores = pseudo_labels.detection_statistics(everything.labels[1:], np.arange(N) % 4)
    assert scores["precision"] == scores["recall"] == 1.0
    assert everything.statistics["clusters"] == [2, 4]
    assert everything.statistics["empty_clusters"] == 0


def test_permuted_keeps_sizes_and_loses_the_meaning():
    table, passes = make(tf.distribute.get_strategy())
    true = Incremental(table, lambda: table.fill(passes()), num_clusters=[4]).detect(1.0, no_phase)
    dealt = Permuted(table, lambda: table.fill(passes()), num_clusters=[4], seed=3).detect(
        1.0, no_phase
    )
    np.testing.assert_array_equal(np.bincount(dealt.labels[0]), np.bincount(true.labels[0]))
    scores = pseudo_labels.detection_statistics(dealt.labels, np.arange(N) % 4)
    assert scores["precision"] < 0.5


def test_oracle_and_plain():
    truth = np.array([0, 1, -1, 1], np.int32)
    found = Oracle(truth).detect(1.0, no_phase)
    np.testing.assert_array_equal(found.labels, [truth])
    np.testing.assert_array_equal(found.confidence, [[1, 1, 0, 1]])
    assert not Oracle.incremental and Plain().num_levels == 0
    with pytest.raises(UserError, match="data set with labels"):
        Oracle(np.full(3, -1))
