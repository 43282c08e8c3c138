"""Encoded bytes to pixels, and pixels to square views, in graph operations only.

Resizing is bilinear with half-pixel centres. Plain views are antialiased (a triangle filter as
wide as the reduction, as in Pillow and torchvision), random ones where they reduce by more than
2: up to there every pixel counts anyway, and it takes a third of the time.
"""

import io

import numpy as np
import tensorflow as tf

from ifnd_tf.data import augment

# The share of the short side that un-augmented views of larger images show (224 of 256).
_CENTRE_SHARE = 0.875

# The reduction up to which random views are not antialiased.
_PLAIN_REDUCTION = 2

# Pillow's limit too: a quarter of a gigabyte of RGB. A few hundred bytes may declare more.
MOST_PIXELS = 89_478_485

# TensorFlow's default transform is up to 10 levels off what Pillow and libjpeg give, and no faster.
_DCT = "INTEGER_ACCURATE"


def decode(contents: tf.Tensor, *, python_fallback: bool = False) -> tf.Tensor:
    """Decodes JPEG (grey, RGB, CMYK), PNG (any kind, 16 bits cut to 8), BMP, GIF or WebP.

    Alpha is dropped; an animation gives its first frame.

    Args:
        contents: string scalar, the file's bytes.
        python_fallback: read palette BMP, animated and transparent WebP by Pillow, because
            TensorFlow takes a palette's numbers for grey levels and refuses the others. Not for
            exported models: it is a Python call.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        tf.errors.InvalidArgumentError: when run, for bytes that are no image, are cut off, or
            declare more than `MOST_PIXELS`, before these take up memory.
    """
    contents = _checked(contents, declared_pixels(contents))

    def decode_other() -> tf.Tensor:
        if not python_fallback:
            return tf.io.decode_image(contents, channels=3, expand_animations=False)
        return tf.cond(
            _needs_pillow(contents),
            lambda: tf.numpy_function(_decode_with_pillow, [contents], tf.uint8, stateful=False),
            lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
        )

    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT),
        decode_other,
    )
    # decode_image leaves the rank open: GIF and WebP could be animations.
    return tf.ensure_shape(image, [None, None, 3])


def declared_pixels(contents: tf.Tensor) -> tf.Tensor:
    """int64 []: height times width, as the header has them; 0 for what is no image.

    A JPEG's header may be anywhere, so TensorFlow looks for it, and fails if there is none.
    """
    byte = tf.cast(_head(contents), tf.int64)

    def big(at: int) -> tf.Tensor:
        return tf.reduce_sum(byte[at : at + 4] * 256 ** tf.constant([3, 2, 1, 0], tf.int64))

    def little(at: int, size: int) -> tf.Tensor:
        return tf.reduce_sum(byte[at : at + size] * 256 ** tf.range(size, dtype=tf.int64))

    def is_at(at: int, text: bytes) -> tf.Tensor:
        return tf.reduce_all(byte[at : at + len(text)] == tf.constant(list(text), tf.int64))

    bmp_height = little(22, 4)  # negative for rows from the top
    lossless = little(21, 4)  # 14 bits each of width - 1 and height - 1
    sizes = [
        (is_at(0, b"\x89PNG"), big(16) * big(20)),
        (is_at(0, b"GIF8"), little(6, 2) * little(8, 2)),
        (is_at(0, b"BM"), little(18, 4) * tf.minimum(bmp_height, (1 << 32) - bmp_height)),
        (is_at(8, b"WEBPVP8X"), (little(24, 3) + 1) * (little(27, 3) + 1)),
        (
            is_at(8, b"WEBPVP8L"),
            (lossless % (1 << 14) + 1) * (lossless // (1 << 14) % (1 << 14) + 1),
        ),
        (is_at(8, b"WEBPVP8 "), (little(26, 2) % (1 << 14)) * (little(28, 2) % (1 << 14))),
    ]
    other = tf.add_n([tf.where(matches, size, 0) for matches, size in sizes])
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)),
        lambda: other,
    )


def _checked(contents: tf.Tensor, declared: tf.Tensor) -> tf.Tensor:
    """The same bytes, unless they declare a decompression bomb: int64 [], pixels."""
    fits = tf.debugging.Assert(
        declared <= MOST_PIXELS, [f"more than {MOST_PIXELS} pixels declared"]
    )
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.identity(contents)


def _head(contents: tf.Tensor) -> tf.Tensor:
    """uint8 [32]: the first bytes, zeros where there are none."""
    head = tf.strings.join([tf.strings.substr(contents, 0, 32), b"\0" * 32])
    return tf.io.decode_raw(tf.strings.substr(head, 0, 32), tf.uint8)


def _needs_pillow(contents: tf.Tensor) -> tf.Tensor:
    """Whether the bytes are a BMP or WebP of a kind that TensorFlow has no operation for."""
    head = tf.strings.substr(contents, 0, 32)
    byte = tf.cast(_head(contents), tf.int32)
    # BMP: size of the second header in byte 14, bits per pixel in 28, compression in 30.
    plain = (byte[14] >= 40) & (byte[28] >= 24) & ((byte[30] == 0) | (byte[30] == 3))
    is_bmp = tf.strings.substr(head, 0, 2) == b"BM"
    # WebP: the extended header's flags are in byte 20, animation is its second bit, alpha its
    # fifth; the lossless header has alpha in the fifth of byte 24.
    chunk = tf.strings.substr(head, 8, 8)
    animated, transparent = byte[20] // 2 % 2 == 1, byte[20] // 16 % 2 == 1
    is_other_webp = (tf.strings.substr(head, 0, 4) == b"RIFF") & (
        ((chunk == b"WEBPVP8X") & (animated | transparent))
        | ((chunk == b"WEBPVP8L") & (byte[24] // 16 % 2 == 1))
    )
    return (is_bmp & ~plain) | is_other_webp


def _decode_with_pillow(contents: bytes | np.ndarray) -> np.ndarray:
    from PIL import Image

    try:
        # Called eagerly, the bytes come wrapped in an array.
        with Image.open(io.BytesIO(np.asarray(contents, object).item())) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to.
        raise ValueError(f"{type(error).__name__}: {error}") from error


def centre_view(image: tf.Tensor, size: int) -> tf.Tensor:
    """The un-augmented square view of an image, for embedding, evaluation and export.

    An image whose short side is at most S shows its central square; a larger one shows 0.875
    of that (as resizing the short side to S / 0.875 and cutting out the centre does).

    Args:
        image: uint8 `[..., H, W, 3]` with at most one leading dimension.
        size: S in pixels.

    Returns:
        uint8 `[..., S, S, 3]`.
    """
    shape = tf.shape(image)
    height, width = shape[-3], shape[-2]
    short = tf.minimum(height, width)
    share = tf.cast(tf.round(tf.cast(short, tf.float32) * _CENTRE_SHARE), tf.int32)
    side = tf.where(short > size, share, short)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(image[..., top : top + side, left : left + side, :], size)


def cut_view(image: tf.Tensor, box: tf.Tensor, mirrored: tf.Tensor, size: int) -> tf.Tensor:
    """One box of one image, resized and perhaps mirrored.

    Args:
        image: uint8 `[H, W, 3]`.
        box: int32 `[4]`: top, left, height, width in pixels, within the image.
        mirrored: bool scalar.
        size: S in pixels.

    Returns:
        uint8 `[S, S, 3]`.
    """
    top, left, height, width = tf.unstack(box)
    crop = image[top : top + height, left : left + width]
    view = tf.cond(
        tf.maximum(height, width) > _PLAIN_REDUCTION * size,
        lambda: _resize(crop, size),
        lambda: _resize_plainly(crop, size),
    )
    # tf.reverse of axis 1 has a kernel of its own for 3 channels, 20 times faster than a slice.
    return tf.cond(mirrored, lambda: tf.reverse(view, [1]), lambda: view)


def cut_views(images: tf.Tensor, boxes: tf.Tensor, mirrored: tf.Tensor, size: int) -> tf.Tensor:
    """`cut_view` for V boxes of every image of a batch at once; enlarges only.

    Interpolation is linear in the pixels along each axis, so a view is R X C with the image X
    and two matrices of two weights a row. That is faster than TensorFlow's crop_and_resize, and
    XLA, which has no kernel for that one, makes the same pixels. At the rim of a box it mixes in
    half a pixel of what lies outside, where `cut_view` repeats the last one.

    Args:
        images: uint8 `[n, H, W, 3]` with static H, W <= S, so that no box is reduced.
        boxes: int32 `[n, V, 4]`, or `[1, V, 4]` for the same boxes of all images.
        mirrored: bool `[n, V]`, or `[1, V]`.
        size: S in pixels.

    Returns:
        uint8 `[n, V, S, S, 3]`.
    """
    height, width = images.shape[1], images.shape[2]
    if height > size or width > size:
        raise ValueError(f"Expected images of at most {size} pixels. Received: {height}x{width}.")
    views = boxes.shape[1]
    corners = tf.cast(boxes, tf.float32)
    rows = _sample_weights(corners[..., 0], corners[..., 2], height, size)
    columns = _sample_weights(corners[..., 1], corners[..., 3], width, size)
    columns = tf.where(mirrored[..., None, None], tf.reverse(columns, [2]), columns)
    # One product makes the rows of all views of an image.
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, height, width * 3])
    cut = tf.matmul(tf.reshape(rows, [-1, views * size, height]), pixels)
    cut = tf.transpose(tf.reshape(cut, [-1, views, size, width, 3]), [0, 1, 3, 2, 4])
    cut = tf.matmul(columns, tf.reshape(cut, [-1, views, width, size * 3]))
    cut = tf.transpose(tf.reshape(cut, [-1, views, size, size, 3]), [0, 1, 3, 2, 4])
    return tf.ensure_shape(_to_bytes(cut), [images.shape[0], views, size, size, 3])


def _sample_weights(start: tf.Tensor, extent: tf.Tensor, pixels: int, size: int) -> tf.Tensor:
    """The share of each of `pixels` in each of `size` samples of a box: `[n, V, size, pixels]`."""
    centres = (tf.range(size, dtype=tf.float32) + 0.5) / size
    at = start[..., None] + extent[..., None] * centres - 0.5
    # Beyond the image's edge its last pixel goes on.
    at = tf.clip_by_value(at, 0.0, pixels - 1.0)
    return tf.nn.relu(1.0 - tf.abs(at[..., None] - tf.range(pixels, dtype=tf.float32)))


def two_views(
    content: tf.Tensor, draws: tf.Tensor, augmentation: augment.Augmentation, size: int
) -> tf.Tensor:
    """Two random crops of one image.

    Of a JPEG only the rectangle that holds both crops is decoded, in one go with cropping.

    Args:
        content: string scalar (encoded) or uint8 `[H, W, 3]`.
        draws: float32 `[2, augment.GEOMETRIC_DRAWS]` in [0, 1).
        augmentation: gives the crop's and the flip's parameters.
        size: S in pixels.

    Returns:
        uint8 `[2, S, S, 3]`.
    """
    if content.dtype == tf.string:
        image, boxes = tf.cond(
            tf.io.is_jpeg(content),
            lambda: _decode_around(content, draws, augmentation),
            lambda: _decode_all(content, draws, augmentation),
        )
        image = tf.ensure_shape(image, [None, None, 3])
    else:
        shape = tf.shape(content)
        image, boxes = content, augment.crop_boxes(draws, shape[0], shape[1], augmentation)
    mirrored = augment.flips(draws, augmentation)
    return tf.stack([cut_view(image, boxes[v], mirrored[v], size) for v in range(2)])


def _decode_around(
    content: tf.Tensor, draws: tf.Tensor, augmentation: augment.Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a JPEG's smallest rectangle around both boxes; the boxes relative to it."""
    shape = tf.image.extract_jpeg_shape(content)
    content = _checked(content, tf.reduce_prod(tf.cast(shape[:2], tf.int64)))
    boxes = augment.crop_boxes(draws, shape[0], shape[1], augmentation)
    corner = tf.reduce_min(boxes[:, :2], axis=0)
    extent = tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) - corner
    window = tf.concat([corner, extent], 0)
    image = tf.io.decode_and_crop_jpeg(content, window, channels=3, dct_method=_DCT)
    return image, boxes - tf.concat([corner, [0, 0]], 0)


def _decode_all(
    content: tf.Tensor, draws: tf.Tensor, augmentation: augment.Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    image = decode(content, python_fallback=True)
    shape = tf.shape(image)
    return image, augment.crop_boxes(draws, shape[0], shape[1], augmentation)


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    resized = _to_bytes(tf.image.resize(image, [size, size], antialias=True))
    return tf.ensure_shape(resized, [*image.shape[:-3], size, size, 3])


def _resize_plainly(image: tf.Tensor, size: int) -> tf.Tensor:
    # A clip is a tenth of the time. A processor's weights sum to 1 too nearly to need one here.
    resized = tf.cast(tf.image.resize(image, [size, size]) + 0.499, tf.uint8)
    return tf.ensure_shape(resized, [size, size, 3])


def _to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    # Weights are convex up to rounding: the clip guards 255.5 against wrapping to 0.
    return tf.cast(tf.clip_by_value(pixels + 0.5, 0.0, 255.0), tf.uint8)
