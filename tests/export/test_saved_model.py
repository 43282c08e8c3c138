"""The SavedModel stands alone: no Keras, no ifnd_tf, the same numbers, still trainable."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data.crops import centre_view
from ifnd_tf.data.decode import decode_image
from ifnd_tf.data.photometric import normalise
from ifnd_tf.errors import UserError
from ifnd_tf.export.saved_model import export
from ifnd_tf.models import backbones
from ifnd_tf.models.network import Network, projector
from tests.conftest import make_strategy
from tests.data.test_decode import FILES

SIZE = 16


def _network():
    encoder = backbones.build(
        "resnet_small", image_size=SIZE, stem="cifar", depth=8, width=16, batch_norm="sync"
    )
    head = projector(encoder.output_shape[-1], 0, 4)
    # Statistics unlike any batch's, so that batch norm in training mode would show.
    for variable in encoder.variables:
        if variable.name == "moving_mean":
            variable.assign(np.linspace(-0.3, 0.3, variable.shape[0]))
        elif variable.name == "moving_variance":
            variable.assign(np.linspace(0.5, 2, variable.shape[0]))
    return encoder, head


def _images(height, width, count=3):
    return np.random.default_rng(height).integers(0, 256, [count, height, width, 3], np.uint8)


def _expected(encoder, projector, images):
    features = encoder(normalise(centre_view(images, SIZE)), training=False)
    embedding = projector(features)
    return features, embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


@pytest.fixture(
    scope="module", params=["default", pytest.param("mirrored-2", marks=pytest.mark.slow)]
)
def exported(request, tmp_path_factory):
    """A network built under a strategy, and where it was exported to."""
    path = tmp_path_factory.mktemp("export") / "saved_model"
    with make_strategy(request.param).scope():
        encoder, projector = _network()
        export(str(path), Network(encoder, projector), SIZE)
    return encoder, projector, path


@pytest.mark.parametrize("size", [(16, 16), (8, 12), (40, 33)])
def test_equals_the_encoder_at_any_image_size(exported, size):
    encoder, projector, path = exported
    images = _images(*size)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(images))
    features, embedding = _expected(encoder, projector, images)
    np.testing.assert_allclose(found["features"], features, atol=1e-5)
    np.testing.assert_allclose(found["embedding"], embedding, atol=1e-5)


def test_encoded_images_of_several_sizes_and_formats(exported):
    encoder, projector, path = exported
    images = [_images(*size, count=1)[0] for size in [(16, 16), (40, 33), (9, 20)]]
    contents = [
        tf.io.encode_png(images[0]),
        tf.io.encode_png(images[1]),
        tf.io.encode_jpeg(images[2]),
    ]
    images[2] = decode_image(contents[2])  # lossy
    found = tf.saved_model.load(str(path)).signatures["encoded"](encoded=tf.stack(contents))
    for i, image in enumerate(images):
        features, embedding = _expected(encoder, projector, tf.convert_to_tensor(image)[None])
        np.testing.assert_allclose(found["features"][i], features[0], atol=1e-5)
        np.testing.assert_allclose(found["embedding"][i], embedding[0], atol=1e-5)


@pytest.mark.cases
@pytest.mark.parametrize("exported", ["default"], indirect=True)
def test_every_format_means_the_same_encoded_or_is_refused(exported):
    signatures = tf.saved_model.load(str(exported[2])).signatures
    for kind, (contents, reads) in FILES.items():
        encoded = tf.constant([contents])
        if not reads:
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a JPEG, a PNG"):
                signatures["encoded"](encoded=encoded)
            continue
        trained_on = decode_image(encoded[0], python_fallback=True)
        expected = signatures["serving_default"](trained_on[None])
        found = signatures["encoded"](encoded=encoded)
        np.testing.assert_allclose(found["features"], expected["features"], atol=1e-5, err_msg=kind)


@pytest.mark.cases
@pytest.mark.parametrize("exported", ["default"], indirect=True)
def test_an_encoded_batch_may_be_empty_and_one_bad_file_fails_it(exported):
    encoded = tf.saved_model.load(str(exported[2])).signatures["encoded"]
    nothing = encoded(encoded=tf.zeros([0], tf.string))
    assert nothing["features"].shape == (0, exported[0].output_shape[-1])
    good = tf.io.encode_png(_images(9, 9, count=1)[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a JPEG, a PNG"):
        encoded(encoded=tf.stack([good, tf.constant(b"no image")]))


def test_no_collectives_remain(exported):
    path = exported[2]
    for signature in tf.saved_model.load(str(path)).signatures.values():
        graph = signature.graph.as_graph_def()
        ops = {node.op for node in graph.node}
        ops |= {node.op for function in graph.library.function for node in function.node_def}
        assert "Conv2D" in ops
        assert not [op for op in ops if "Collective" in op or "AllReduce" in op or "Nccl" in op]


# Runs where neither Keras nor this package can be imported.
_FOREIGN = '''
import json, sys

class Without:
    """What a finder finds where these packages are not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras", "tf_keras", "ifnd_tf"):
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import numpy as np
import tensorflow as tf

for name in ("keras", "ifnd_tf"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(name + " can be imported: the test proves nothing")
model = tf.saved_model.load(sys.argv[1])
images = tf.constant(np.load(sys.argv[2]))
call = model.signatures["serving_default"]
with tf.GradientTape() as tape:
    before = call(images)
    loss = tf.reduce_mean(before["embedding"][:, 0])
gradients = tape.gradient(loss, model.trainable_variables)
for variable, gradient in zip(model.trainable_variables, gradients):
    variable.assign_sub(0.1 * gradient)
after = call(images)
print(json.dumps({
    "features": before["features"].numpy().tolist(),
    "trainable": len(model.trainable_variables),
    "variables": len(model.variables),
    "fell": float(loss - tf.reduce_mean(after["embedding"][:, 0])),
    "gradients": [float(tf.norm(g)) for g in gradients],
}))
'''


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["mirrored-2"], indirect=True)
def test_loads_and_trains_without_keras_and_without_this_package(exported, tmp_path):
    encoder, projector, path = exported
    images = _images(20, 20)
    np.save(tmp_path / "images.npy", images)
    # -I: neither the working directory nor PYTHONPATH leads to this package.
    command = [sys.executable, "-I", "-c", _FOREIGN, str(path), str(tmp_path / "images.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    features, _ = _expected(encoder, projector, images)
    np.testing.assert_allclose(found["features"], features, atol=1e-5)
    networks = (encoder, projector)
    assert found["trainable"] == sum(len(n.trainable_variables) for n in networks)
    assert found["variables"] == sum(len(n.variables) for n in networks)
    assert found["fell"] > 1e-4
    assert min(found["gradients"]) > 0


def test_is_a_keras_layer_to_keras_users(exported):
    encoder, projector, path = exported
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")
    images = _images(16, 16)
    features, _ = _expected(encoder, projector, images)
    np.testing.assert_allclose(layer(tf.constant(images))["features"], features, atol=1e-5)
    assert len(layer.trainable_weights) == len(
        encoder.trainable_variables + projector.trainable_variables
    )


def test_an_unwritable_path_is_an_error(tmp_path):
    blocked = pathlib.Path(tmp_path, "file")
    blocked.write_text("")
    with pytest.raises(UserError, match="can be written"):
        export(str(blocked / "model"), Network(*_network()), SIZE)
