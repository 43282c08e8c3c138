"""Decoding of every format that a folder may hold, and square views, against Pillow and NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf.data import augment, images
from ifnd_tf.distribute import stateless_random
from tests.data.conftest import picture


def encoded(mode: str, file_format: str, **options) -> bytes:
    image = Image.fromarray(picture(0))
    if mode == "I;16":
        # 16-bit levels whose upper byte is the 8-bit picture's and whose lower byte is not 0.
        image = Image.fromarray(picture(0)[..., 0].astype(np.uint16) * 256 + 77)
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def frames(file_format: str, **options) -> bytes:
    rest = [Image.fromarray(picture(i)) for i in (1, 2)]
    return encoded("RGB", file_format, save_all=True, append_images=rest, **options)


FILES = {
    "grey JPEG": encoded("L", "JPEG", quality=95),
    "RGB JPEG": encoded("RGB", "JPEG", quality=95),
    "progressive JPEG": encoded("RGB", "JPEG", quality=95, progressive=True),
    "CMYK JPEG": encoded("CMYK", "JPEG", quality=95),
    "grey PNG": encoded("L", "PNG"),
    "black and white PNG": encoded("1", "PNG"),
    "RGB PNG": encoded("RGB", "PNG"),
    "RGBA PNG": encoded("RGBA", "PNG"),
    "grey PNG with alpha": encoded("LA", "PNG"),
    "palette PNG": encoded("P", "PNG"),
    "16-bit PNG": encoded("I;16", "PNG"),
    "RGB BMP": encoded("RGB", "BMP"),
    "RGBA BMP": encoded("RGBA", "BMP"),
    "grey BMP": encoded("L", "BMP"),
    "palette BMP": encoded("P", "BMP"),
    "black and white BMP": encoded("1", "BMP"),
    "GIF": encoded("RGB", "GIF"),
    "animated GIF": frames("GIF"),
    "WebP": encoded("RGB", "WEBP", lossless=True),
    "lossy WebP": encoded("RGB", "WEBP", quality=95),
    "WebP with alpha": encoded("RGBA", "WEBP", lossless=True),
    "animated WebP": frames("WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_decodes_as_pillow_does(kind):
    decoded = images.decode(tf.constant(FILES[kind]), python_fallback=True).numpy()
    if kind == "16-bit PNG":
        expected = np.repeat(picture(0)[..., :1], 3, axis=-1)
    else:
        expected = np.asarray(Image.open(io.BytesIO(FILES[kind])).convert("RGB"))
    assert decoded.dtype == np.uint8
    # JPEG's inverse transforms and lossy WebP's colour conversion differ by a few levels.
    tolerance = 4 if "JPEG" in kind or "lossy" in kind else 0
    assert np.abs(decoded.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "animated GIF", "WebP"])
def test_the_graph_alone_decodes_what_an_exported_model_needs(kind):
    decode = tf.function(images.decode, input_signature=[tf.TensorSpec([], tf.string)])
    with_fallback = images.decode(tf.constant(FILES[kind]), python_fallback=True)
    np.testing.assert_array_equal(decode(FILES[kind]), with_fallback)
    operations = {op.type for op in decode.get_concrete_function().graph.get_operations()}
    assert not {"PyFunc", "EagerPyFunc", "PyFuncStateless"} & operations


@pytest.mark.parametrize("kind", ["RGB JPEG", "RGB PNG", "RGB BMP", "GIF", "palette BMP", "WebP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_files_that_are_cut_off_are_refused(kind, share):
    contents = FILES[kind][: int(len(FILES[kind]) * share)]
    with pytest.raises((tf.errors.OpError, ValueError)):
        images.decode(tf.constant(contents), python_fallback=True)


def reference_view(image, box, mirrored, size, antialias=True):
    """Triangle filter over the box alone, one output pixel at a time."""
    top, left, height, width = box
    crop = image[top : top + height, left : left + width].astype(float)

    def weights(extent):
        step = extent / size
        matrix = np.zeros([size, extent])
        for i in range(size):
            for j in range(extent):
                position = (i + 0.5) * step
                if not antialias:  # Bilinear: beyond the outermost pixels' centres, those alone.
                    position = np.clip(position, 0.5, extent - 0.5)
                distance = abs(j + 0.5 - position) / (max(step, 1) if antialias else 1)
                matrix[i, j] = max(0.0, 1 - distance)
        return matrix / matrix.sum(1, keepdims=True)

    view = np.einsum("ih,hwc,jw->ijc", weights(height), crop, weights(width))
    return view[:, ::-1] if mirrored else view


BOXES = [[0, 0, 20, 24], [0, 0, 5, 7], [15, 17, 5, 7], [3, 4, 10, 10], [19, 23, 1, 1]]


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_view_of_a_box_equals_the_reference(size, mirrored):
    image = picture(0)
    for box in BOXES:
        view = images.cut_view(tf.constant(image), tf.constant(box), tf.constant(mirrored), size)
        expected = reference_view(image, box, mirrored, size, antialias=max(box[2:]) > 2 * size)
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
    views = images.cut_views(tf.constant(batch), tf.constant(boxes), tf.constant(mirrored), 32)
    assert views.shape == (3, 2, 32, 32, 3) and views.dtype == tf.uint8
    for n in range(3):
        for v in range(2):
            expected = reference_enlarged(batch[n], boxes[n, v], mirrored[n, v], 32)
            np.testing.assert_allclose(views[n, v], expected, atol=0.51)


def test_views_of_a_batch_do_not_reduce():
    with pytest.raises(ValueError, match=r"at most 16 pixels. Received: 20x24"):
        boxes = tf.constant([[BOXES[0]]])
        images.cut_views(tf.constant(picture(0)[None]), boxes, tf.constant([[False]]), 16)


def test_the_centre_of_a_small_image_is_its_central_square():
    image = picture(0)
    expected = reference_view(image, [0, 2, 20, 20], False, 32)
    np.testing.assert_allclose(images.centre_view(tf.constant(image), 32), expected, atol=0.51)


def test_the_centre_of_a_large_image_is_a_smaller_square():
    image = picture(0, 40, 64)
    # 0.875 x 40 = 35 pixels: (40 - 35) // 2 = 2 from the top, (64 - 35) // 2 = 14 from the left.
    expected = reference_view(image, [2, 14, 35, 35], False, 16)
    np.testing.assert_allclose(images.centre_view(tf.constant(image), 16), expected, atol=0.51)


def test_an_image_of_the_right_size_is_its_own_view():
    image = picture(0, 24, 24)
    np.testing.assert_array_equal(images.centre_view(tf.constant(image), 24), image)


def test_centres_of_a_batch_are_the_centres_of_its_images():
    batch = tf.constant(np.stack([picture(i) for i in range(3)]))
    views = images.centre_view(batch, 16)
    assert views.shape == (3, 16, 16, 3)
    for image, view in zip(batch, views, strict=True):
        np.testing.assert_array_equal(images.centre_view(image, 16), view)


@pytest.mark.parametrize("kind", ["RGB JPEG", "CMYK JPEG", "grey JPEG", "RGB PNG", "palette BMP"])
def test_two_views_of_a_file_are_those_of_its_pixels(kind):
    recipe = augment.recipe("moco_v2")
    contents = tf.constant(FILES[kind])
    pixels = images.decode(contents, python_fallback=True)
    for index in range(8):
        draws = stateless_random.uniform([index], tf.range(2), augment.GEOMETRIC_DRAWS)
        fused = images.two_views(contents, draws, recipe, 16)
        boxes = augment.crop_boxes(draws, *pixels.shape[:2], recipe)
        mirrored = augment.flips(draws, recipe)
        for v in range(2):
            whole = images.cut_view(pixels, boxes[v], mirrored[v], 16)
            # At the rim of a decoded rectangle, JPEG's chroma lacks its outer neighbours.
            gap = np.abs(np.int32(fused[v]) - np.int32(whole))
            assert gap.mean() < (1.0 if "JPEG" in kind else 1e-9)


def test_only_the_part_of_a_jpeg_that_is_seen_is_decoded():
    recipe = augment.recipe("moco_v2")
    draws = tf.zeros([2, augment.GEOMETRIC_DRAWS])
    traced = tf.function(lambda c: images.two_views(c, draws, recipe, 16))
    graph = traced.get_concrete_function(tf.TensorSpec([], tf.string)).graph
    functions = graph.as_graph_def().library.function
    operations = [node.op for function in functions for node in function.node_def]
    assert operations.count("DecodeAndCropJpeg") == 1
