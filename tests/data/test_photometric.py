"""Views' geometry and colours against slow references."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data import photometric, recipes

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
    recipe = recipes.recipe(name, blur_probability=0.5, blur_sigma_min=5.0, blur_sigma_max=50.0)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (24, 10, 10, 3), np.uint8)
    draws = draws_of(24, photometric.PHOTOMETRIC_DRAWS)
    views = photometric.augment(tf.constant(images), tf.constant(draws), recipe, static=static)
    for image, draw, view in zip(images, draws, views.numpy(), strict=True):
        order = rng.permutation(["brightness", "contrast", "saturation", "hue"])
        expected = reference_blur(reference_colours(image, draw, recipe, order), draw, recipe)
        np.testing.assert_allclose(view * photometric.STD + photometric.MEAN, expected, atol=1e-5)


def test_a_batch_in_which_nothing_is_blurred():
    recipe = recipes.recipe("moco_v2", jitter_probability=0.0, gray_probability=0.0)
    draws = np.ones((2, photometric.PHOTOMETRIC_DRAWS), np.float32) * 0.9
    images = np.full((2, 8, 8, 3), 7, np.uint8)
    views = photometric.augment(tf.constant(images), tf.constant(draws), recipe, static=False)
    np.testing.assert_allclose(views, photometric.normalise(images), atol=1e-6)


def test_the_recipes_reach_all_changes():
    """The comparison above would pass vacuously if no image were changed."""
    draws = draws_of(24, photometric.PHOTOMETRIC_DRAWS)
    for column, probability in ((0, 0.8), (5, 0.2), (6, 0.5)):
        assert 0 < (draws[:, column] < probability).sum() < 24


def test_probability_zero_is_exactly_the_identity():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
    draws = tf.constant(draws_of(6, photometric.PHOTOMETRIC_DRAWS))
    still = photometric.augment(images, draws, recipes.recipe("moco_v2", **STILL))
    np.testing.assert_array_equal(still, photometric.normalise(images))


@pytest.mark.parametrize("static", [False, True])
def test_a_change_of_probability_0_costs_nothing(static):
    def products(**overrides):
        recipe = recipes.recipe("moco_v2", **{**STILL, **overrides})
        function = tf.function(
            lambda images, draws: photometric.augment(images, draws, recipe, static=static)
        ).get_concrete_function(
            tf.TensorSpec([2, 8, 8, 3], tf.uint8),
            tf.TensorSpec([2, photometric.PHOTOMETRIC_DRAWS], tf.float32),
        )
        return [op.type for op in function.graph.get_operations() if "MatMul" in op.type]

    assert len(products()) == 0
    # One for the colours, one along each axis for the blur.
    assert len(products(jitter_probability=0.5)) == len(products(gray_probability=0.5)) == 1
    assert len(products(blur_probability=0.5)) == 2


def test_an_image_that_is_left_alone_beside_changed_ones_is_unchanged():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8))
    left_alone = np.float32(
        [[0.99] * photometric.PHOTOMETRIC_DRAWS, [0.0] * photometric.PHOTOMETRIC_DRAWS]
    )
    views = photometric.augment(images, tf.constant(left_alone), recipes.recipe("moco_v2"))
    plain = photometric.normalise(images)
    np.testing.assert_allclose(views[0], plain[0], atol=1e-6)
    assert np.abs(views[1] - plain[1]).max() > 0.1


def test_grey_images_stay_grey_under_saturation_and_hue():
    levels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    grey = np.repeat(levels, 3, axis=-1)
    coloured_only = {"jitter_brightness": 0.0, "jitter_contrast": 0.0, "blur_probability": 0.0}
    recipe = recipes.recipe("simclr", **coloured_only)
    draws = tf.constant(draws_of(16, photometric.PHOTOMETRIC_DRAWS))
    views = photometric.augment(tf.constant(grey), draws, recipe)
    np.testing.assert_allclose(views, photometric.normalise(grey), atol=1e-5)


@pytest.mark.parametrize("name", ["moco_v2", "digits"])
def test_photometric_is_the_same_eager_in_a_graph_and_under_xla(name):
    recipe = recipes.recipe(name)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8))
    draws = tf.constant(draws_of(8, photometric.PHOTOMETRIC_DRAWS))

    def views(images, draws):
        return photometric.augment(images, draws, recipe)

    eager = views(images, draws)
    np.testing.assert_allclose(tf.function(views)(images, draws), eager, atol=1e-5)
    np.testing.assert_allclose(
        tf.function(views, jit_compile=True)(images, draws), eager, atol=1e-5
    )


def test_normalise_uses_imagenets_mean_and_deviation():
    red = np.zeros([1, 1, 3], np.uint8)
    red[..., 0] = 255
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(photometric.normalise(red)[0, 0], expected, rtol=1e-6)
