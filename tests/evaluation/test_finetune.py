"""Fine-tuning learns what a frozen encoder hides, and leaves the encoder as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.finetune import finetune, finetune_steps
from ifnd_tf.models.network import Network

SIZE = 8


def _encoder():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def _data(count, seed):
    """Class 1 shows vertical stripes, class 0 horizontal ones: equal in mean and histogram."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count).astype(np.int32)
    stripes = np.tile(np.array([0, 200]), SIZE // 2)[None, :, None]
    images = np.where(labels[:, None, None, None], stripes[:, None], stripes[:, :, None])
    images = np.broadcast_to(images, [count, SIZE, SIZE, 3])
    return (images + random.integers(0, 50, images.shape)).astype(np.uint8), labels


def _crops(images, batch=8):
    index = np.arange(len(images), dtype=np.int32)
    data = {"index": index, "images": np.stack([images, images], axis=1)}
    return tf.data.Dataset.from_tensor_slices(data).batch(batch, drop_remainder=True).repeat()


def _test_batches(images, labels):
    index = np.arange(len(images), dtype=np.int32)
    data = {"index": index, "images": images, "label": labels}
    return tf.data.Dataset.from_tensor_slices(data).batch(20)


def _run(encoder, steps):
    images, labels = _data(16, 0)
    return dict(
        finetune(
            Network(encoder, None),
            crops=_crops(images),
            labels=labels,
            test_batches=_test_batches(*_data(100, 1)),
            num_test_examples=100,
            steps=steps,
            prefix="finetune_10pct",
        )
    )


def test_learns_and_leaves_the_encoder_as_it_was():
    encoder = _encoder()
    before = [variable.numpy() for variable in encoder.variables]
    found = _run(encoder, steps=60)
    assert found["finetune_10pct_top1"] > 0.95
    for variable, value in zip(encoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_the_encoder_itself_is_trained_and_its_running_statistics_are_not():
    encoder = _encoder()
    before = [variable.numpy() for variable in encoder.variables]
    moved = []

    def test_batches():
        moved.extend(
            bool(np.any(variable.numpy() != value))
            for variable, value in zip(encoder.variables, before, strict=True)
        )
        yield from _test_batches(*_data(20, 1))

    images, labels = _data(16, 0)
    data = {"crops": _crops(images), "labels": labels}
    network = Network(encoder, None)
    dict(finetune(network, **data, test_batches=test_batches(), num_test_examples=20, steps=5))
    # Kernel, bias, scale, offset; moving mean and variance.
    assert moved == [True, True, True, True, False, False]


def test_one_class_is_an_error():
    with pytest.raises(UserError, match="at least two classes"):
        dict(
            finetune(
                Network(_encoder(), None),
                crops=_crops(_data(8, 0)[0]),
                labels=np.zeros(8, np.int32),
                test_batches=[],
                num_test_examples=1,
                steps=1,
            )
        )


def test_steps():
    assert finetune_steps(12800, 256, 0.01) == finetune_steps(12800, 256, 5) == 60 * 50
    assert finetune_steps(128000, 256, 0.1) == 30 * 500
    assert finetune_steps(14, 14, 0.01) == 300  # 60 passes would be 60 steps
