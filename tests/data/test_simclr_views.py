"""Views have the distribution of those that SimCLR's own preprocessing makes, written out here.

That is google-research/simclr, tf2/data_util.py: crops by TensorFlow's bounding boxes, resized
bicubically, then brightness, contrast, saturation and hue one by one in random order, clipped
after each. What differs by design (one clip, hue in YIQ, bilinear) must stay within the bounds.
Crops are torchvision's (tests/data/test_crops.py); TensorFlow draws their heights uniformly
instead of their areas, so that areas come out smaller.
"""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from ifnd_tf.data import crops, photometric, recipes

COUNT, SIZE = 1000, 32


@pytest.fixture(scope="module")
def photo() -> tf.Tensor:
    pixels = load_sample_images().images[0]
    return tf.cast(tf.image.resize(pixels, [120, 160], antialias=True), tf.uint8)


def simclr_box(photo: tf.Tensor) -> tf.Tensor:
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(photo), tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), max_attempts=100, seed=1,
    )  # fmt: skip
    return tf.concat([begin[:2], size[:2]], 0)


def simclr_view(photo: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(simclr_box(photo))
    image = tf.image.convert_image_dtype(photo, tf.float32)[top : top + height, left : left + width]
    image = tf.image.resize(image, [SIZE, SIZE], method="bicubic")
    image = tf.image.random_flip_left_right(image)

    def jitter() -> tf.Tensor:
        changes = [
            lambda x: x * tf.random.uniform([], 0.2, 1.8),
            lambda x: tf.image.random_contrast(x, 0.2, 1.8),
            lambda x: tf.image.random_saturation(x, 0.2, 1.8),
            lambda x: tf.image.random_hue(x, 0.2),
        ]
        changed = image
        for number in tf.unstack(tf.random.shuffle(tf.range(4))):
            branches = [lambda change=change, x=changed: change(x) for change in changes]
            changed = tf.clip_by_value(tf.switch_case(number, branches), 0.0, 1.0)
        return changed

    image = tf.cond(tf.random.uniform([]) < 0.8, jitter, lambda: image)
    grey = tf.tile(tf.image.rgb_to_grayscale(image), [1, 1, 3])
    image = tf.where(tf.random.uniform([]) < 0.2, grey, image)
    return tf.clip_by_value(tf.reshape(image, [SIZE, SIZE, 3]), 0.0, 1.0)


def drawn(width: int) -> np.ndarray:
    return np.random.default_rng(width).random((COUNT, width), np.float32)


def test_crops(photo):
    tf.random.set_seed(0)
    theirs = np.array([simclr_box(photo) for _ in range(COUNT)])
    recipe = recipes.recipe("simclr")
    ours = crops.crop_boxes(drawn(crops.GEOMETRIC_DRAWS), 120, 160, recipe).numpy()
    for what, tolerance in (
        (lambda box: box[:, 2] * box[:, 3] / (120 * 160), 0.08),
        (lambda box: np.log(box[:, 3] / box[:, 2]), 0.03),
        (lambda box: (box[:, 0] + box[:, 2] / 2) / 120, 0.02),
        (lambda box: (box[:, 1] + box[:, 3] / 2) / 160, 0.02),
    ):
        assert abs(what(ours).mean() - what(theirs).mean()) < tolerance
        assert abs(what(ours).std() - what(theirs).std()) < tolerance


@pytest.mark.slow
def test_moments(photo):
    tf.random.set_seed(0)
    make = tf.function(lambda: simclr_view(photo))
    theirs = np.array([make() for _ in range(COUNT)])
    recipe = recipes.recipe("simclr", blur_probability=0.0)
    draws = drawn(crops.GEOMETRIC_DRAWS)
    boxes, mirrored = crops.crop_boxes(draws, 120, 160, recipe), crops.flips(draws, recipe)
    cut = tf.function(lambda box, turn: crops.cut_view(photo, box, turn, SIZE))
    views = tf.stack([cut(box, turn) for box, turn in zip(boxes, mirrored, strict=True)])
    ours = photometric.augment(views, drawn(photometric.PHOTOMETRIC_DRAWS), recipe).numpy()
    ours = ours * photometric.STD + photometric.MEAN
    for what in (
        lambda x: x.mean((1, 2)),  # brightness of a view, each channel
        lambda x: x.std((1, 2)),  # contrast of a view
        lambda x: x.max(3).mean((1, 2)) - x.min(3).mean((1, 2)),  # colourfulness
    ):
        np.testing.assert_allclose(what(ours).mean(0), what(theirs).mean(0), atol=0.03)
        np.testing.assert_allclose(what(ours).std(0), what(theirs).std(0), atol=0.03)
