"""Where crops lie, and the views that they give, against slow references."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data import crops, decode, recipes
from ifnd_tf.data.decode import decode_image
from ifnd_tf.distribute import stateless_random
from tests.data.conftest import picture
from tests.data.test_decode import FILES, photo


def draws_of(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, width), np.float32)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 41), (10, 300), (1, 1)])
def test_boxes_lie_within_the_image(height, width):
    draws = stateless_random.uniform([3], tf.range(2000), crops.GEOMETRIC_DRAWS)
    boxes = crops.crop_boxes(draws, height, width, recipes.recipe("simclr")).numpy()
    top, left, box_height, box_width = boxes.T
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (top + box_height <= height).all() and (left + box_width <= width).all()


def test_a_box_may_be_a_single_pixel():
    draws = stateless_random.uniform([3], tf.range(200), crops.GEOMETRIC_DRAWS)
    boxes = crops.crop_boxes(draws, 2, 2, recipes.recipe("simclr")).numpy()
    assert [1, 1] in boxes[:, 2:].tolist() and [2, 2] in boxes[:, 2:].tolist()


def test_the_last_draw_below_one_keeps_the_box_inside():
    """The place is floor(u (free + 1)), which must not round up to free + 1 for any size."""
    draws = np.full([1, crops.GEOMETRIC_DRAWS], 0.5, np.float32)
    draws[0, 20:22] = np.nextafter(np.float32(1), np.float32(0))
    sides = tf.range(1, 3000)
    boxes = crops.crop_boxes(tf.constant(draws), sides, sides, recipes.recipe("moco_v2")).numpy()
    ends = boxes[:, :2] + boxes[:, 2:]
    np.testing.assert_array_equal(ends, np.stack([sides, sides], axis=1))


def test_areas_aspects_and_places_have_inceptions_distribution():
    """Against the sequential algorithm of torchvision's RandomResizedCrop with its own numbers."""
    size, count = 1000, 20000
    recipe = recipes.recipe("moco_v2")
    draws = stateless_random.uniform([0], tf.range(count), crops.GEOMETRIC_DRAWS)
    boxes = crops.crop_boxes(draws, size, size, recipe).numpy().astype(float)
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
    draws = stateless_random.uniform([0], tf.range(50), crops.GEOMETRIC_DRAWS)
    boxes = crops.crop_boxes(draws, 40, 40, recipes.recipe("moco_v2", crop_min_area=1.0))
    # A try whose sides round to 40 x 40 counts as the whole image, too.
    np.testing.assert_array_equal(boxes, np.tile([0, 0, 40, 40], (50, 1)))


def test_the_fallback_is_the_central_crop_of_the_nearest_aspect():
    draws = stateless_random.uniform([0], tf.range(50), crops.GEOMETRIC_DRAWS)
    boxes = crops.crop_boxes(draws, 30, 90, recipes.recipe("moco_v2", crop_min_area=1.0))
    # 30 x 90 exceeds 4/3, so width 40, centred: (90 - 40) / 2 = 25.
    np.testing.assert_array_equal(boxes, np.tile([0, 25, 30, 40], (50, 1)))


def test_boxes_are_the_same_in_a_graph_and_under_xla():
    draws = stateless_random.uniform([0], tf.range(64), crops.GEOMETRIC_DRAWS)
    recipe = recipes.recipe("moco_v2")
    eager = crops.crop_boxes(draws, 50, 70, recipe)
    for jit in (False, True):
        compiled = tf.function(lambda d: crops.crop_boxes(d, 50, 70, recipe), jit_compile=jit)
        np.testing.assert_array_equal(compiled(draws), eager)


def test_flips_come_at_their_probability():
    draws = stateless_random.uniform([0], tf.range(10000), crops.GEOMETRIC_DRAWS)
    share = tf.reduce_mean(tf.cast(crops.flips(draws, recipes.recipe("moco_v2")), tf.float32))
    assert abs(float(share) - 0.5) < 0.02  # 4 standard deviations of 0.005.
    assert not np.any(crops.flips(draws, recipes.recipe("digits")))


def reference_view(image, box, mirrored, size, how="triangle"):
    """One output pixel at a time from the box alone: triangle filter, bilinear or mean of area."""
    top, left, height, width = box
    crop = image[top : top + height, left : left + width].astype(float)

    def weight(step, extent, i, j):
        position = (i + 0.5) * step
        if how == "area":
            return max(0.0, min(j + 1, (i + 1) * step) - max(j, i * step))
        if how == "bilinear":  # beyond the outermost pixels' centres, those alone
            return max(0.0, 1 - abs(j + 0.5 - np.clip(position, 0.5, extent - 0.5)))
        return max(0.0, 1 - abs(j + 0.5 - position) / max(step, 1))

    def weights(extent):
        places = np.ndindex(size, extent)
        matrix = np.reshape([weight(extent / size, extent, i, j) for i, j in places], [size, -1])
        return matrix / matrix.sum(1, keepdims=True)

    view = np.einsum("ih,hwc,jw->ijc", weights(height), crop, weights(width))
    return view[:, ::-1] if mirrored else view


BOXES = [[0, 0, 20, 24], [0, 0, 5, 7], [15, 17, 5, 7], [3, 4, 10, 10], [19, 23, 1, 1]]


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_view_of_a_box_equals_the_reference(size, mirrored):
    image = picture(0)
    for box in BOXES:
        view = crops.cut_view(tf.constant(image), tf.constant(box), tf.constant(mirrored), size)
        how = "area" if max(box[2:]) > 2 * size else "bilinear"
        expected = reference_view(image, box, mirrored, size, how)
        # Half a level for rounding, and a little for float32.
        np.testing.assert_allclose(view, expected, atol=0.51)


def reference_enlarged(image, box, mirrored, size):
    """Bilinear samples at half-pixel centres; positions beyond the image take its last pixel."""
    (rows, columns), view = image.shape[:2], np.zeros([size, size, 3])
    for i in range(size):
        for j in range(size):
            y = np.clip(box[0] + (i + 0.5) * box[2] / size - 0.5, 0, rows - 1)
            x = np.clip(box[1] + (j + 0.5) * box[3] / size - 0.5, 0, columns - 1)
            for row, p in ((int(y), 1 - y % 1), (min(int(y) + 1, rows - 1), y % 1)):
                for column, q in ((int(x), 1 - x % 1), (min(int(x) + 1, columns - 1), x % 1)):
                    view[i, j] += p * q * image[row, column].astype(float)
    return view[:, ::-1] if mirrored else view


def test_views_of_a_batch_equal_the_reference():
    batch = np.stack([picture(i) for i in range(3)])
    boxes = np.array([[BOXES[0], BOXES[1]], [BOXES[2], BOXES[3]], [BOXES[4], BOXES[0]]], np.int32)
    mirrored = np.array([[False, True], [True, False], [False, True]])
    views = crops.cut_views(tf.constant(batch), tf.constant(boxes), tf.constant(mirrored), 32)
    assert views.shape == (3, 2, 32, 32, 3) and views.dtype == tf.uint8
    for n in range(3):
        for v in range(2):
            expected = reference_enlarged(batch[n], boxes[n, v], mirrored[n, v], 32)
            np.testing.assert_allclose(views[n, v], expected, atol=0.51)


def test_views_of_a_batch_do_not_reduce():
    with pytest.raises(ValueError, match=r"at most 16 pixels. Received: 20x24"):
        boxes = tf.constant([[BOXES[0]]])
        crops.cut_views(tf.constant(picture(0)[None]), boxes, tf.constant([[False]]), 16)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("size", [8, 32])
def test_black_stays_black_and_white_white(level, size):
    image = tf.fill([20, 24, 3], tf.constant(level, tf.uint8))
    views = [crops.centre_view(image, size)]
    for box in BOXES:
        views.append(crops.cut_view(image, tf.constant(box), tf.constant(False), size))
    if size == 32:
        boxes = tf.constant([BOXES])
        views.append(crops.cut_views(image[None], boxes, tf.zeros([1, len(BOXES)], tf.bool), size))
    for view in views:
        np.testing.assert_array_equal(view, np.full(view.shape, level))


def test_the_centre_of_a_small_image_is_its_central_square():
    image = picture(0)
    expected = reference_view(image, [0, 2, 20, 20], False, 32)
    np.testing.assert_allclose(crops.centre_view(tf.constant(image), 32), expected, atol=0.51)


def test_the_centre_of_a_large_image_is_a_smaller_square():
    image = picture(0, 40, 64)
    # 0.875 x 40 = 35 pixels: (40 - 35) // 2 = 2 from the top, (64 - 35) // 2 = 14 from the left.
    expected = reference_view(image, [2, 14, 35, 35], False, 16)
    np.testing.assert_allclose(crops.centre_view(tf.constant(image), 16), expected, atol=0.51)


def test_an_image_of_the_right_size_is_its_own_view():
    image = picture(0, 24, 24)
    np.testing.assert_array_equal(crops.centre_view(tf.constant(image), 24), image)


def test_centres_of_a_batch_are_the_centres_of_its_images():
    batch = tf.constant(np.stack([picture(i) for i in range(3)]))
    views = crops.centre_view(batch, 16)
    assert views.shape == (3, 16, 16, 3)
    for image, view in zip(batch, views, strict=True):
        np.testing.assert_array_equal(crops.centre_view(image, 16), view)


@pytest.mark.parametrize("kind", ["RGB JPEG", "CMYK JPEG", "grey JPEG", "RGB PNG", "palette BMP"])
def test_two_views_of_a_file_are_those_of_its_pixels(kind):
    recipe = recipes.recipe("moco_v2")
    contents = tf.constant(FILES[kind][0])
    pixels = decode_image(contents, python_fallback=True)
    for index in range(8):
        draws = stateless_random.uniform([index], tf.range(2), crops.GEOMETRIC_DRAWS)
        fused = crops.two_views(contents, draws, recipe, 16)
        boxes = crops.crop_boxes(draws, *pixels.shape[:2], recipe)
        mirrored = crops.flips(draws, recipe)
        for v in range(2):
            whole = crops.cut_view(pixels, boxes[v], mirrored[v], 16)
            np.testing.assert_array_equal(fused[v], whole)


def test_only_the_part_of_a_jpeg_that_is_seen_is_decoded():
    recipe = recipes.recipe("moco_v2")
    draws = tf.zeros([2, crops.GEOMETRIC_DRAWS])
    traced = tf.function(lambda c: crops.two_views(c, draws, recipe, 16))
    graph = traced.get_concrete_function(tf.TensorSpec([], tf.string)).graph
    functions = graph.as_graph_def().library.function
    operations = [node.op for function in functions for node in function.node_def]
    assert operations.count("DecodeAndCropJpeg") == 1


def test_a_jpeg_of_more_pixels_than_allowed_is_refused_before_it_is_decoded():
    recipe, draws = recipes.recipe("moco_v2"), tf.zeros([2, crops.GEOMETRIC_DRAWS])
    decoding = decode.Decoding(max_pixels=20 * 24)
    largest, larger = (tf.io.encode_jpeg(picture(0, 20, width)) for width in (24, 25))
    assert crops.two_views(largest, draws, recipe, 16, decoding).shape == (2, 16, 16, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 0.00048 megapixels"):
        crops.two_views(larger, draws, recipe, 16, decoding)


def test_views_of_a_rotated_jpeg_are_those_of_the_upright_image():
    recipe = recipes.recipe("moco_v2")
    contents = tf.constant(FILES["rotated JPEG"][0])
    draws = tf.random.stateless_uniform([2, crops.GEOMETRIC_DRAWS], [0, 1])
    upright = decode_image(contents)
    found = crops.two_views(contents, draws, recipe, 16)
    np.testing.assert_array_equal(found, crops.two_views(upright, draws, recipe, 16))


def test_views_of_reduced_images_are_distributed_as_those_of_whole_ones():
    """Levels, contrast and sharpness of 400 views, as a network sees them."""
    size, recipe, whole, reduced = 16, recipes.recipe("moco_v2"), [], []
    draws = stateless_random.uniform([0], tf.range(200), 2 * crops.GEOMETRIC_DRAWS)
    draws = tf.reshape(draws, [20, 10, 2, crops.GEOMETRIC_DRAWS])
    for i in range(20):
        content = tf.io.encode_jpeg(photo(300, 400, seed=i), quality=95)
        for views, margin in ((whole, 0.0), (reduced, 2.5)):
            decoding = decode.Decoding(margin=margin)
            image = decode_image(content, decoding, view_size=size)
            assert image.shape[0] == (300 if not margin else 75)
            views += [crops.two_views(image, each, recipe, size) for each in draws[i]]
    whole, reduced = (np.reshape(views, [-1, size, size, 3]) / 255 for views in (whole, reduced))
    # Boxes are rounded to the pixels of the smaller image, so views are not equal one by one.
    assert np.abs(whole - reduced).mean() < 0.025

    def sharpness(views: np.ndarray) -> np.ndarray:
        return np.abs(np.diff(views, axis=2)).mean(axis=(1, 2, 3))

    for measure, tolerance in (
        (lambda views: views.mean(axis=(1, 2, 3)), 0.01),
        (lambda views: views.std(axis=(1, 2, 3)), 0.02),
        (sharpness, 0.05),
    ):
        ours, theirs = measure(reduced), measure(whole)
        assert abs(ours.mean() / theirs.mean() - 1) < tolerance
        assert abs(ours.std() / theirs.std() - 1) < 3 * tolerance
