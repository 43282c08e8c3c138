"""Rows land at their index, under every strategy, with one trace."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embedder, labelled, raw_pixels


def _batches(index, label=None, batch=2):
    """Batches as `ordered_batches` makes them; image i is filled with the number i."""
    index = np.array(index, np.int32)
    images = np.broadcast_to(np.maximum(index, 0)[:, None, None, None], [len(index), 2, 2, 3])
    data = {"index": index, "images": images.astype(np.uint8)}
    if label is not None:
        data["label"] = np.array(label, np.int32)
    return tf.data.Dataset.from_tensor_slices(data).batch(batch, drop_remainder=True)


def _mean(images):
    return {"features": tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])}


def test_rows_land_at_their_index_and_padding_nowhere():
    outputs = Embedder(_mean)(_batches([3, 1, 0, -1], [7, 8, 9, 5]), num_examples=5)
    np.testing.assert_array_equal(outputs["features"][:, 0], [0, 1, 0, 3, 0])
    np.testing.assert_array_equal(outputs["seen"], [True, True, False, True, False])
    np.testing.assert_array_equal(outputs["label"], [9, 8, -1, 7, -1])


def test_half_precision_comes_back_as_float32():
    def half(images):
        return {"features": tf.cast(images, tf.bfloat16)}

    outputs = Embedder(half)(_batches([0, 1]), num_examples=2)
    assert outputs["features"].dtype == np.float32
    assert outputs["features"][1].max() == 1


def test_an_embedder_traces_once_for_many_passes():
    traces = []

    def function(images):
        traces.append(images.shape)
        return _mean(images)

    embedder = Embedder(function)
    for _ in range(3):
        embedder(_batches([0, 1, 2, 3]), num_examples=4)
    assert len(traces) == 1


@pytest.mark.distribution
def test_replicas_share_the_work():
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs 2 logical devices")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices[:2]])
    index = [5, 4, 3, 2, 1, -1, 0, -1]
    data = strategy.distribute_datasets_from_function(lambda _: _batches(index, index))
    outputs = Embedder(_mean, strategy)(data, num_examples=6)
    np.testing.assert_array_equal(outputs["features"][:, 2], np.arange(6))
    np.testing.assert_array_equal(outputs["label"], np.arange(6))
    assert outputs["seen"].all()


def test_nothing_to_embed_is_an_error():
    with pytest.raises(UserError, match="at least one readable image"):
        Embedder(_mean)(_batches([-1, -1]), num_examples=3)


def test_labelled_keeps_seen_and_labelled_rows_only():
    outputs = Embedder(_mean)(_batches([0, 1, 3, -1], [2, -1, 0, 1]), num_examples=4)
    features, labels = labelled(outputs)
    np.testing.assert_array_equal(features[:, 0], [0, 3])
    np.testing.assert_array_equal(labels, [2, 0])


def test_labelled_needs_labels():
    outputs = Embedder(_mean)(_batches([0, 1]), num_examples=2)
    with pytest.raises(UserError, match="labelled images"):
        labelled(outputs)


def test_raw_pixels_are_flat_and_in_the_unit_interval():
    images = tf.constant(np.arange(24).reshape(2, 2, 2, 3) * 10, tf.uint8)
    features = raw_pixels(images)["features"]
    np.testing.assert_allclose(features[1], np.arange(12, 24) * 10 / 255, rtol=1e-6)


def test_raw_pixels_of_large_images_are_reduced():
    images = tf.cast(tf.fill([1, 64, 64, 3], 51), tf.uint8)
    features = raw_pixels(images)["features"]
    assert features.shape == (1, 32 * 32 * 3)
    np.testing.assert_allclose(features, 0.2, rtol=1e-5)
