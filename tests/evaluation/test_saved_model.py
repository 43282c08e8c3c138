"""Any SavedModel gives features; a wrong name is answered with those that exist."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embedder
from ifnd_tf.evaluation.saved_model import load_features


class _Foreign(tf.Module):
    """Somebody else's model: floats of a fixed size in, a map out, and names of its own."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, name="pixels")])
    def look(self, pixels):
        return {"map": self.scale * pixels, "pooled": tf.reduce_mean(pixels, axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def bytes(self, images):
        return {"features": tf.cast(images, tf.float32)[:, 0, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="names")])
    def words(self, names):
        return {"features": tf.strings.length(names)[:, None]}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = _Foreign()
    path = str(tmp_path_factory.mktemp("foreign") / "model")
    signatures = {"look": model.look, "serving_default": model.bytes, "words": model.words}
    tf.saved_model.save(model, path, signatures=signatures)
    return path


def _images(size):
    values = np.random.default_rng(0).integers(0, 256, [5, 1, 1, 3], np.uint8)
    return np.broadcast_to(values, [5, size, size, 3])


def test_uint8_images_pass_as_they_are(path):
    images = _images(6)
    found = load_features(path)(tf.constant(images))["features"]
    np.testing.assert_array_equal(found, images[:, 0, 0])


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize(("output", "factor"), [("map", 2), ("pooled", 1)])
def test_floats_of_a_fixed_size_and_maps(path, size, output, factor):
    images = _images(size)
    found = load_features(path, "look", output)(tf.constant(images))["features"]
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found, factor * (images[:, 0, 0] / 255), rtol=1e-5)


def test_serves_the_embedding_pass(path):
    images = _images(6)
    batches = tf.data.Dataset.from_tensor_slices(
        {"index": np.array([4, 2, 0, -1], np.int32), "images": images[:4]}
    ).batch(2)
    outputs = Embedder(load_features(path))(batches, num_examples=5)
    np.testing.assert_array_equal(outputs["features"][[4, 2, 0]], images[:3, 0, 0])


def test_a_path_without_a_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"saved_model\.pb"):
        load_features(str(tmp_path))


def test_a_wrong_signature_names_those_that_exist(path):
    with pytest.raises(UserError, match="It has: look, serving_default, words"):
        load_features(path, "embed")


def test_a_model_without_signatures_is_to_be_saved_with_them(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(UserError, match="It has none; save the model again with signatures="):
        load_features(str(tmp_path))


def test_a_wrong_output_names_those_that_exist(path):
    with pytest.raises(UserError, match="It has: map, pooled"):
        load_features(path, "look", "features")


def test_a_signature_that_takes_no_images_is_an_error(path):
    with pytest.raises(UserError, match="one batch of images"):
        load_features(path, "words")
