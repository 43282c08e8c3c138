"""A small data set of four obvious classes, on any number of replicas."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import nearest
from ifnd_tf.detection.embeddings import ImagePass
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.distribute import programs

N, BATCH, SIDE = 44, 8, 2
WIDTH = SIDE * SIDE * 3
TRUE_LABELS = (np.arange(N) % 4).astype(np.int32)


def images():
    """[N, 2, 2, 3] around four far corners."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2, (4, WIDTH)) * 200
    noise = rng.integers(0, 40, (N, WIDTH))
    return (corners[TRUE_LABELS] + noise).astype(np.uint8).reshape(N, SIDE, SIDE, 3)


def embed(batch):
    return tf.math.l2_normalize(tf.reshape(tf.cast(batch, tf.float32), [-1, WIDTH]), axis=-1)


def table(strategy, function=embed):
    """The images' embeddings, from passes dealt out to the replicas."""
    size = BATCH // strategy.num_replicas_in_sync
    steps = -(-N // BATCH)
    index = np.full(steps * BATCH, -1, np.int32)
    index[:N] = np.random.default_rng(1).permutation(N)  # the order is not the index
    pixels = images()[np.maximum(index, 0)]

    def one_pass():
        data = tf.data.Dataset.from_tensor_slices({"index": index, "images": pixels})
        batches = data.batch(size, drop_remainder=True)
        return strategy.distribute_datasets_from_function(
            lambda context: batches.shard(context.num_input_pipelines, context.input_pipeline_id)
        )

    return ImagePass(
        strategy, one_pass, function, num_examples=N, rows=steps * size, batch_size=size,
        width=WIDTH,
    )  # fmt: skip


def sharded_kmeans(strategy, **options):
    """k-means of these."""
    return ShardedKMeans(table(strategy), iterations=5, **options)


def scarce(monkeypatch, most):
    """Memory for so many rows at a time: more fail as TensorFlow fails, when they are computed."""

    def guarded(function, points, index, size, kinds):
        taken = min(size, points.shape[0])

        def use():
            if taken > most:
                raise MemoryError(f"{taken} rows")  # which TensorFlow makes ResourceExhaustedError

        if tf.executing_eagerly():  # k-means of few centroids or samples
            return by_chunks(function, points, index, size, kinds)
        with tf.control_dependencies([tf.numpy_function(use, [], [])]):
            return by_chunks(function, tf.identity(points), index, size, kinds)

    by_chunks = nearest._by_chunks
    # Neither are programs traced before taken, nor those traced with these limits kept.
    afresh = functools.lru_cache(programs.shared.__wrapped__)
    monkeypatch.setattr(programs, "shared", afresh)
    monkeypatch.setattr(nearest, "_by_chunks", guarded)


def no_phase(name):
    return contextlib.nullcontext(lambda done, total: None)
