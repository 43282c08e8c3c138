"""The encoder in files for others: they load without this package and agree with the encoder."""

import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from ifnd_tf.data.photometric import normalise
from ifnd_tf.errors import UserError
from ifnd_tf.export import keras_formats
from ifnd_tf.stages import build
from tests import tiny

SIZE = 8


@pytest.fixture(scope="module")
def encoder() -> keras.Model:
    config = tiny.config(batch_norm="split", batch_norm_splits=2)
    model = build.model(config, tf.distribute.get_strategy(), num_examples=10).encoder
    model(tf.random.stateless_normal([16, SIZE, SIZE, 3], [0, 1]), training=True)  # statistics
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [4, SIZE, SIZE, 3], np.uint8)


@pytest.fixture(scope="module")
def expected(encoder, images) -> np.ndarray:
    return encoder(normalise(tf.constant(images)), training=False).numpy()


@pytest.mark.slow
def test_the_keras_file_loads_without_this_package(encoder, images, expected, tmp_path):
    keras_formats.write_keras(str(tmp_path / "encoder"), keras_formats.keras_encoder(encoder, SIZE))
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('encoder.keras')\n"
        "assert not any(name.startswith('ifnd_tf') for name in sys.modules)\n"
        "before = model(np.load('images.npy')).numpy()\n"
        "model.set_weights([0 * w for w in model.get_weights()])\n"
        "model.load_weights('encoder.weights.h5')\n"
        "np.save('features.npy', np.stack([before, model(np.load('images.npy')).numpy()]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for found in np.load(tmp_path / "features.npy"):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_copy_can_be_trained(encoder, images):
    copy = keras_formats.keras_encoder(encoder, SIZE)
    assert len(copy.trainable_variables) == len(encoder.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(copy(images, training=True) ** 2)
    gradients = tape.gradient(loss, copy.trainable_variables)
    assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients)


@pytest.mark.filterwarnings("ignore")  # the converter's own
def test_onnx_gives_the_same_features(encoder, images, expected, tmp_path):
    path = str(tmp_path / "encoder")
    assert keras_formats.write_onnx(path, keras_formats.keras_encoder(encoder, SIZE)) == [
        f"{path}.onnx"
    ]
    session = onnxruntime.InferenceSession(f"{path}.onnx")
    (features,) = session.run(None, {"images": images.astype(np.float32)})
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def small(*layers: keras.layers.Layer) -> keras.Model:
    """A network of these layers, as it is exported."""
    inputs = keras.Input([8, 8, 3])
    outputs = keras.Sequential([*layers, keras.layers.Flatten()])(inputs)
    return keras_formats.keras_encoder(keras.Model(inputs, outputs, name="small"), 8)


@pytest.mark.filterwarnings("ignore")  # the converter's own
def test_onnx_has_the_exact_gelu_of_transformers(tmp_path):
    model = small(keras.layers.Conv2D(4, 3), keras.layers.Activation("gelu"))
    pixels = np.random.default_rng(0).integers(0, 256, [2, 8, 8, 3]).astype(np.float32)
    (path,) = keras_formats.write_onnx(str(tmp_path / "encoder"), model)
    (features,) = onnxruntime.InferenceSession(path).run(None, {"images": pixels})
    np.testing.assert_allclose(features, model(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # the converter's own
def test_a_network_that_onnx_cannot_hold_is_refused_with_its_operations(tmp_path, caplog):
    model = small(keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3, groups=2))  # as ConvNeXt's
    with pytest.raises(UserError, match="Received: small with StatefulPartitionedCall; leave onnx"):
        keras_formats.write_onnx(str(tmp_path / "encoder"), model)
    assert not list(tmp_path.iterdir()) and not caplog.records


@pytest.mark.filterwarnings("ignore")  # of an interpreter that another package will hold
def test_tensorflow_lite_gives_the_same_features(encoder, images, expected, tmp_path):
    copy = keras_formats.keras_encoder(encoder, SIZE)
    (path,) = keras_formats.write_tflite(str(tmp_path / "encoder"), copy)
    interpreter = tf.lite.Interpreter(path)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images.astype(np.float32))
    interpreter.invoke()
    (made,) = interpreter.get_output_details()
    found = interpreter.get_tensor(made["index"])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_without_the_converter_the_error_says_what_to_install(encoder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match="pip install"):
        keras_formats.write_onnx(str(tmp_path / "e"), encoder)


def test_grouped_convolutions_as_convnext_has_them_are_refused_as_onnx(tmp_path):
    layers = keras.layers
    network = [layers.Conv2D(4, 3, groups=2, name="grouped"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input([SIZE, SIZE, 4]), *network])
    with pytest.raises(UserError, match="--export_formats=onnx: .* Received: grouped.* leave onnx"):
        keras_formats.write_onnx(str(tmp_path / "e"), model)
    assert not list(tmp_path.iterdir())
