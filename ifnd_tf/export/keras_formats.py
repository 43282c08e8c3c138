"""The encoder as a Keras model of stock layers, its weights, ONNX and TensorFlow Lite."""

import collections
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ifnd_tf.data import photometric
from ifnd_tf.errors import UserError, cause
from ifnd_tf.models.batch_norm import BatchNorm
from ifnd_tf.models.weights import Weight, misfits, weights_of

# The newest set of ONNX operators that tf2onnx writes.
_ONNX_OPSET = 18


def keras_encoder(encoder: keras.Model, image_size: int) -> keras.Model:
    """A copy of an encoder that Keras loads and trains further without this package.

    Args:
        encoder: functional model, normalised images -> features `[b, F]`; may have been built
            under any strategy.
        image_size: S.

    Returns:
        Functional model, RGB images `[b, S, S, 3]` in 0 to 255 (uint8 or float) -> features
        float32 `[b, F]`, with batch normalisation of the whole batch.
    """

    def stock(layer):
        if isinstance(layer, BatchNorm):
            return keras.layers.BatchNormalization(
                momentum=layer.momentum,
                epsilon=layer.epsilon,
                scale=layer.scale,
                name=layer.name,
                dtype=layer.dtype_policy,
            )
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(encoder, clone_function=stock)
    copy.set_weights(encoder.get_weights())
    images = keras.Input([image_size, image_size, 3], name="images")
    scale, offset = 1 / (255 * photometric.STD), -photometric.MEAN / photometric.STD
    normalised = keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="normalise")(images)
    features = keras.layers.Activation("linear", dtype="float32", name="features")(copy(normalised))
    return keras.Model(images, features, name="ifnd_encoder")


def read_keras(path: str) -> keras.Model:
    """The model of a .keras file.

    Raises:
        UserError: if Keras cannot load it.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise UserError(
            "--init_from: expected a .keras file that Keras can load. Received: "
            f"{path!r} ({cause(error)})."
        ) from error


def is_export(path: str) -> bool:
    """Whether a file of weights is of `keras_encoder`, in which the network is one layer."""
    with h5py.File(path) as file:
        return "functional" in file.get("layers", ())


def read_weights(path: str, encoder: keras.Model, image_size: int) -> list[Weight]:
    """The encoder's weights in a file that `write_keras` made of `keras_encoder`.

    Args:
        path: the .weights.h5 file.
        encoder: of the architecture that is expected.
        image_size: S.

    Raises:
        UserError: if they do not fit; names them with their shapes.
    """
    model = keras_encoder(encoder, image_size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # one for each layer that is not there
            model.load_weights(path)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"--init_from: expected weights that fit the network {encoder.name}. Received: "
            f"{path!r} ({_misfits(path, weights_of(encoder)) or cause(error)}); give the flags of "
            "that network, or another start."
        ) from error
    return weights_of(model)


def _misfits(path: str, expected: Sequence[Weight]) -> str:
    """`weights.misfits` for a file whose layers have names."""
    found: dict[str, np.ndarray] = {}

    def collect(_, group) -> None:
        if isinstance(group, h5py.Group) and "name" in group.attrs:
            found.update({f"{group.attrs['name']} {n}": group[n] for n in group})

    with h5py.File(path) as file:
        file.visititems(collect)
        received, numbers = [], collections.Counter[str]()
        for weight in expected:
            layer = weight.name.rpartition("/")[0]
            key = f"{layer} {numbers[layer]}"
            numbers[layer] += 1
            received.append(Weight(key, found.get(key)))
        return misfits(expected, received) if found else ""


def write_keras(path: str, model: keras.Model) -> list[str]:
    """Writes `path`.keras and `path`.weights.h5, local or gs://; returns their paths."""
    paths = [f"{path}.keras", f"{path}.weights.h5"]
    model.save(paths[0])
    model.save_weights(paths[1], overwrite=True)
    return paths


def write_onnx(path: str, model: keras.Model) -> list[str]:
    """Writes `path`.onnx; returns its path in a list.

    Raises:
        UserError: if the converter is not installed, or leaves a part of the network out.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise UserError(
            "--export_formats=onnx: expected the package tf2onnx. Received: none installed; "
            'pip install "tf2onnx>=1.17", or leave onnx out.'
        ) from error
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="images")

    @tf.function(input_signature=[spec], autograph=False)
    def bare(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    # tf2onnx would make inputs of the tensors that a graph captures, such as indices of position
    # embeddings.
    frozen = convert_variables_to_constants_v2(bare.get_concrete_function())

    @tf.function(input_signature=[spec], autograph=False)
    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": tf.reshape(frozen(images)[0], [-1, model.output_shape[-1]])}

    with _quiet("tf2onnx"):  # it logs each unknown operation as an error; one error below names all
        proto, _ = tf2onnx.convert.from_function(
            features,
            input_signature=[spec],
            opset=_ONNX_OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    unknown = sorted({node.op_type for node in proto.graph.node} - known)
    if unknown:
        raise UserError(
            "--export_formats=onnx: expected a network whose operations tf2onnx converts. "
            f"Received: {model.layers[-2].name} with {', '.join(unknown)}; leave onnx out."
        )
    return [_write(f"{path}.onnx", proto.SerializeToString())]


def _erfc(graph: Any, node: Any, name: str, args: Any) -> None:
    """erfc(x) as 1 - erf(x), for the exact GELU of transformers: tf2onnx knows erf only."""
    node.type, result = "Erf", node.output[0]
    one = graph.make_const(f"{name}/one", np.ones([], np.float32)).output[0]
    graph.insert_new_node_on_output("Sub", result, inputs=[one, result])


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Silences a library's logger."""
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


def write_tflite(path: str, model: keras.Model) -> list[str]:
    """Writes `path`.tflite; returns its path in a list.

    The SavedModel itself cannot be converted: TensorFlow Lite has no operation that resizes images
    of any size with antialiasing.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # It prints all variables.
        converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    return [_write(f"{path}.tflite", converted)]


def _write(path: str, contents: bytes) -> str:
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(contents)
    return path
