"""Detection in an array of images, by any function that embeds."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.detection import metrics
from ifnd_tf.detection.from_arrays import array_detector
from ifnd_tf.errors import UserError
from tests import corners


def flat(rows):
    """Embeddings that are not unit vectors, of the images' own number type."""
    return tf.reshape(rows, [-1, corners.WIDTH])


@pytest.mark.parametrize("batch_size", [11, 100])  # full batches, and one that is padded
def test_labels_are_by_index_whatever_the_batch(batch_size):
    detector = array_detector(
        flat, corners.images(), width=corners.WIDTH, num_clusters=[4], batch_size=batch_size
    )
    found = detector.detect(1.0, corners.no_phase)
    scores = metrics.detection_statistics(found.labels, corners.TRUE_LABELS)
    assert scores["precision"] == scores["recall"] == 1.0
    unit = corners.embed(corners.images()).numpy()
    np.testing.assert_allclose(found.sample.points, unit, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_clusters", [5, 3]), ("num_clusters", []), ("num_clusters", [0]),
        ("num_clusters", [corners.N + 1]), ("scope", "clusters"), ("confidence_temperature", 0.0),
        ("confidence_temperature", float("nan")), ("batch_size", 0), ("iterations", 0),
    ],
)  # fmt: skip
def test_an_argument_out_of_its_range_is_named(name, value):
    given = {"width": corners.WIDTH, "num_clusters": [4], name: value}
    with pytest.raises(UserError, match=rf"^{name}: expected .*Received: "):
        array_detector(flat, corners.images(), **given)


def test_settings_reach_what_they_set():
    detector = array_detector(
        flat, corners.images(), width=corners.WIDTH, num_clusters=[4], scope="cluster",
        confidence_temperature=0.5, iterations=3, seed=7,
    )  # fmt: skip
    kmeans = detector.kmeans
    assert (kmeans.temperature, kmeans.iterations, kmeans.seed) == (0.5, 3, 7)
    half = detector.detect(0.5, corners.no_phase).labels[0]
    # Every corner gives its share: half of 11, rounded up.
    np.testing.assert_array_equal(np.bincount(half[half >= 0]), [6] * 4)


def test_defaults_are_those_of_the_flags():
    defaults = {name: p.default for name, p in inspect.signature(array_detector).parameters.items()}
    config = Config()
    assert defaults["scope"] == config.acceptance_scope
    assert defaults["confidence_temperature"] == config.confidence_temperature
    assert defaults["iterations"] == config.kmeans_iterations
    assert defaults["seed"] == config.seed


def test_by_default_256_rows_are_embedded_at_a_time():
    sizes = set()

    def embed(rows):
        sizes.add(rows.shape[0])
        return flat(rows)

    images = np.tile(corners.images(), [6, 1, 1, 1])[:257]
    array_detector(embed, images, width=corners.WIDTH, num_clusters=[2]).kmeans.table.refresh()
    assert sizes == {256}
