"""Views' geometry and colours against slow references."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data import augment
from ifnd_tf.distribute import stateless_random
from ifnd_tf.errors import UserError

STILL = {
    "jitter_probability": 0.0,
    "gray_probability": 0.0,
    "blur_probability": 0.0,
    "flip_probability": 0.0,
}


def draws_of(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, width), np.float32)


def reference_colours(image, draw, recipe, order):
    """Brightness, contrast, saturation and hue one after the other, without clipping between."""
    luma = np.array([0.299, 0.587, 0.114])
    # FCC's NTSC definition: I and Q are scaled B - Y and R - Y, turned by 33 degrees.
    angle = math.radians(33)
    x = image.astype(np.float64) / 255
    if draw[0] < recipe.jitter_probability:
        strengths = recipe.jitter_brightness, recipe.jitter_contrast, recipe.jitter_saturation
        low = [max(0.0, 1 - s) for s in strengths]
        high = [1 + s for s in strengths]
        b, f, s = np.array(low) + (np.array(high) - low) * draw[1:4]
        turn = 2 * math.pi * recipe.jitter_hue * (2 * draw[4] - 1)
        for operation in order:
            y = x @ luma
            if operation == "brightness":
                x = b * x
            elif operation == "contrast":
                x = f * x + (1 - f) * y.mean()
            elif operation == "saturation":
                x = s * x + (1 - s) * y[..., None]
            else:
                u, v = 0.493 * (x[..., 2] - y), 0.877 * (x[..., 0] - y)
                i = -math.sin(angle) * u + math.cos(angle) * v
                q = math.cos(angle) * u + math.sin(angle) * v
                i, q = (
                    math.cos(turn) * i - math.sin(turn) * q,
                    math.sin(turn) * i + math.cos(turn) * q,
                )
                u = -math.sin(angle) * i + math.cos(angle) * q
                v = math.cos(angle) * i + math.sin(angle) * q
                blue, red = y + u / 0.493, y + v / 0.877
                green = (y - luma[0] * red - luma[2] * blue) / luma[1]
                x = np.stack([red, green, blue], axis=-1)
    if draw[5] < recipe.gray_probability:
        x = np.repeat((x @ luma)[..., None], 3, axis=-1)
    return np.clip(x, 0, 1)


def reference_blur(x, draw, recipe):
    """Sums over a Gaussian window, renormalised where the window leaves the image."""
    if draw[6] >= recipe.blur_probability:
        return x
    size = x.shape[0]
    sigma = recipe.blur_sigma_min + (recipe.blur_sigma_max - recipe.blur_sigma_min) * draw[7]
    sigma *= size / 224
    result = np.zeros_like(x)
    for i in range(size):
        for j in range(size):
            weight = np.exp(
                -((np.arange(size)[:, None] - i) ** 2 + (np.arange(size)[None] - j) ** 2)
                / (2 * sigma**2)
            )
            result[i, j] = (weight[..., None] * x).sum((0, 1)) / weight.sum()
    return result


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("name", ["moco_v2", "simclr", "digits"])
def test_photometric_equals_the_sequential_reference(name, static):
    # A strong blur, so that 10-pixel views show it: 2 pixels of 224 would be invisible.
    recipe = augment.recipe(name, blur_probability=0.5, blur_sigma_min=5.0, blur_sigma_max=50.0)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (24, 10, 10, 3), np.uint8)
    draws = draws_of(24, augment.PHOTOMETRIC_DRAWS)
    views = augment.photometric(tf.constant(images), tf.constant(draws), recipe, static=static)
    for image, draw, view in zip(images, draws, views.numpy(), strict=True):
        order = rng.permutation(["brightness", "contrast", "saturation", "hue"])
        expected = reference_blur(reference_colours(image, draw, recipe, order), draw, recipe)
        np.testing.assert_allclose(view * augment.STD + augment.MEAN, expected, atol=1e-5)


def test_a_batch_in_which_nothing_is_blurred():
    recipe = augment.recipe("moco_v2", jitter_probability=0.0, gray_probability=0.0)
    draws = np.ones((2, augment.PHOTOMETRIC_DRAWS), np.float32) * 0.9
    images = np.full((2, 8, 8, 3), 7, np.uint8)
    views = augment.photometric(tf.constant(images), tf.constant(draws), recipe, static=False)
    np.testing.assert_allclose(views, augment.normalise(images), atol=1e-6)


def test_the_recipes_reach_all_changes():
    """The comparison above would pass vacuously if no image were changed."""
    draws = draws_of(24, augment.PHOTOMETRIC_DRAWS)
    for column, probability in ((0, 0.8), (5, 0.2), (6, 0.5)):
        assert 0 < (draws[:, column] < probability).sum() < 24


def test_probability_zero_is_exactly_the_identity():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
    draws = tf.constant(draws_of(6, augment.PHOTOMETRIC_DRAWS))
    still = augment.photometric(images, draws, augment.recipe("moco_v2", **STILL))
    np.testing.assert_array_equal(still, augment.normalise(images))


def test_an_image_that_is_left_alone_beside_changed_ones_is_unchanged():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8))
    left_alone = np.float32([[0.99] * augment.PHOTOMETRIC_DRAWS, [0.0] * augment.PHOTOMETRIC_DRAWS])
    views = augment.photometric(images, tf.constant(left_alone), augment.recipe("moco_v2"))
    plain = augment.normalise(images)
    np.testing.assert_allclose(views[0], plain[0], atol=1e-6)
    assert np.abs(views[1] - plain[1]).max() > 0.1


def test_grey_images_stay_grey_under_saturation_and_hue():
    levels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    grey = np.repeat(levels, 3, axis=-1)
    coloured_only = {"jitter_brightness": 0.0, "jitter_contrast": 0.0, "blur_probability": 0.0}
    recipe = augment.recipe("simclr", **coloured_only)
    draws = tf.constant(draws_of(16, augment.PHOTOMETRIC_DRAWS))
    views = augment.photometric(tf.constant(grey), draws, recipe)
    np.testing.assert_allclose(views, augment.normalise(grey), atol=1e-5)


@pytest.mark.parametrize("name", ["moco_v2", "digits"])
def test_photometric_is_the_same_eager_in_a_graph_and_under_xla(name):
    recipe = augment.recipe(name)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8))
    draws = tf.constant(draws_of(8, augment.PHOTOMETRIC_DRAWS))

    def views(images, draws):
        return augment.photometric(images, draws, recipe)

    eager = views(images, draws)
    np.testing.assert_allclose(tf.function(views)(images, draws), eager, atol=1e-5)
    np.testing.assert_allclose(
        tf.function(views, jit_compile=True)(images, draws), eager, atol=1e-5
    )


def test_normalise_uses_imagenets_mean_and_deviation():
    red = np.zeros([1, 1, 3], np.uint8)
    red[..., 0] = 255
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(augment.normalise(red)[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 41), (10, 300), (1, 1)])
def test_boxes_lie_within_the_image(height, width):
    draws = stateless_random.uniform([3], tf.range(2000), augment.GEOMETRIC_DRAWS)
    boxes = augment.crop_boxes(draws, height, width, augment.recipe("simclr")).numpy()
    top, left, box_height, box_width = boxes.T
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (top + box_height <= height).all() and (left + box_width <= width).all()


def test_the_last_draw_below_one_keeps_the_box_inside():
    """The place is floor(u (free + 1)), which must not round up to free + 1 for any size."""
    draws = np.full([1, augment.GEOMETRIC_DRAWS], 0.5, np.float32)
    draws[0, 20:22] = np.nextafter(np.float32(1), np.float32(0))
    sides = tf.range(1, 3000)
    boxes = augment.crop_boxes(tf.constant(draws), sides, sides, augment.recipe("moco_v2")).numpy()
    ends = boxes[:, :2] + boxes[:, 2:]
    np.testing.assert_array_equal(ends, np.stack([sides, sides], axis=1))


def test_areas_aspects_and_places_have_inceptions_distribution():
    """Against the sequential algorithm of torchvision's RandomResizedCrop with its own numbers."""
    size, count = 1000, 20000
    recipe = augment.recipe("moco_v2")
    draws = stateless_random.uniform([0], tf.range(count), augment.GEOMETRIC_DRAWS)
    boxes = augment.crop_boxes(draws, size, size, recipe).numpy().astype(float)
    rng = np.random.default_rng(5)
    expected = []
    for _ in range(count):
        for _ in range(10):
            area = rng.uniform(0.2, 1.0) * size * size
            aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if width <= size and height <= size:
                expected.append(
                    [rng.integers(size - height + 1), rng.integers(size - width + 1), height, width]
                )
                break
        else:
            expected.append([0, 0, size, size])
    expected = np.array(expected, float)
    for values in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0],
        lambda box: box[:, 1] + box[:, 3],
    ):
        ours, theirs = np.sort(values(boxes)), np.sort(values(expected))
        # Kolmogorov-Smirnov: 1.95 sqrt(2 / n) = 0.0195 is exceeded once in a thousand.
        grid = np.concatenate([ours, theirs])
        gap = np.abs(
            np.searchsorted(ours, grid, "right") - np.searchsorted(theirs, grid, "right")
        ).max()
        assert gap / count < 0.0195


def test_the_whole_image_is_taken_when_nothing_may_be_cropped():
    draws = stateless_random.uniform([0], tf.range(50), augment.GEOMETRIC_DRAWS)
    boxes = augment.crop_boxes(draws, 40, 40, augment.recipe("moco_v2", crop_min_area=1.0))
    # A try whose sides round to 40 x 40 counts as the whole image, too.
    np.testing.assert_array_equal(boxes, np.tile([0, 0, 40, 40], (50, 1)))


def test_the_fallback_is_the_central_crop_of_the_nearest_aspect():
    draws = stateless_random.uniform([0], tf.range(50), augment.GEOMETRIC_DRAWS)
    boxes = augment.crop_boxes(draws, 30, 90, augment.recipe("moco_v2", crop_min_area=1.0))
    # 30 x 90 exceeds 4/3, so width 40, centred: (90 - 40) / 2 = 25.
    np.testing.assert_array_equal(boxes, np.tile([0, 25, 30, 40], (50, 1)))


def test_boxes_are_the_same_in_a_graph_and_under_xla():
    draws = stateless_random.uniform([0], tf.range(64), augment.GEOMETRIC_DRAWS)
    recipe = augment.recipe("moco_v2")
    eager = augment.crop_boxes(draws, 50, 70, recipe)
    for jit in (False, True):
        compiled = tf.function(lambda d: augment.crop_boxes(d, 50, 70, recipe), jit_compile=jit)
        np.testing.assert_array_equal(compiled(draws), eager)


def test_flips_come_at_their_probability():
    draws = stateless_random.uniform([0], tf.range(10000), augment.GEOMETRIC_DRAWS)
    share = tf.reduce_mean(tf.cast(augment.flips(draws, augment.recipe("moco_v2")), tf.float32))
    assert abs(float(share) - 0.5) < 0.02  # 4 standard deviations of 0.005.
    assert not np.any(augment.flips(draws, augment.recipe("digits")))


def test_recipe_overrides_only_what_is_given():
    changed = augment.recipe("moco_v2", crop_min_area=0.5, flip_probability=None)
    assert changed == augment.RECIPES["moco_v2"]._replace(crop_min_area=0.5)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mocov2", {}, "moco_v2, simclr, digits. Received: 'mocov2'"),
        ("moco_v2", {"hue": 0.1}, "Received: hue"),
        ("moco_v2", {"blur_sigma_max": 0.05}, "at least --blur_sigma_min=0.1. Received: 0.05"),
    ],
)
def test_bad_recipes_are_named(name, overrides, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        augment.recipe(name, **overrides)
