"""Encoded images to pixels, with one meaning in training, evaluation, embedding and export.

TensorFlow's operations read JPEG, PNG and plain BMP, GIF and WebP. Everything else goes through
Pillow and its plug-ins; an exported model, which has no Python, refuses it with an error.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.image_formats import pillow, unreadable_reason
from ifnd_tf.data.image_headers import Header, exif_orientation
from ifnd_tf.data.reduction import means, reduced

# TensorFlow's default transform is up to 10 levels off what Pillow and libjpeg give, and no faster.
DCT = "INTEGER_ACCURATE"


class Decoding(NamedTuple):
    """How images with transparency or more than 8 bits a channel become 8-bit RGB.

    Attributes:
        background: grey level, 0 to 255, that transparent pixels are composited on.
        sixteen_bits: "range": images of more than 8 bits are scaled by their own least and
            greatest level; "high_byte": divided by 256.
        max_pixels: images that declare more are refused before they take up memory: a few hundred
            bytes may declare billions.
        margin: for views of S pixels, images are decoded at 1/2, 1/4, 1/8 or 1/16 of their size, as
            long as margin x S pixels are left of their short side; 0: always in full.
    """

    background: int = 255
    sixteen_bits: str = "range"
    max_pixels: int = 256_000_000
    margin: float = 2.5

    def least_side(self, view_size: int) -> float:
        """The pixels that are left of an image's short side for views of S pixels; 0: all."""
        return self.margin * view_size


DECODING = Decoding()


def decode_image(
    contents: tf.Tensor,
    decoding: Decoding = DECODING,
    *,
    view_size: int = 0,
    python_fallback: bool = False,
) -> tf.Tensor:
    """Decodes an image upright, on its background, the first frame of an animation.

    Args:
        contents: string scalar, the file's bytes.
        decoding: the meaning of transparency and of more than 8 bits, and `margin`.
        view_size: S of the views to cut out of it, for which large images are reduced; 0: in full.
        python_fallback: read what TensorFlow does not (TIFF, HEIC, AVIF, JPEG 2000, palettes of
            BMP, transparent GIF, transparent or animated WebP) by Pillow, in a Python call that
            an exported model cannot make.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        tf.errors.InvalidArgumentError: when run, for bytes that are no image, are cut off, cannot
            be read without Python, or declare more than `max_pixels`, before these take up memory.
    """
    if tf.executing_eagerly():
        return _decode(contents, decoding, view_size, python_fallback)
    return _decoder(decoding, view_size, python_fallback)(contents)


@functools.cache
def _decoder(
    decoding: Decoding, view_size: int, python_fallback: bool
) -> Callable[[tf.Tensor], tf.Tensor]:
    """`_decode`, traced once rather than by every pipeline: that takes a second."""
    return tf.function(
        lambda contents: _decode(contents, decoding, view_size, python_fallback), autograph=False
    )


def _decode(
    contents: tf.Tensor, decoding: Decoding, view_size: int, python_fallback: bool
) -> tf.Tensor:
    least_side = decoding.least_side(view_size)

    def other() -> tf.Tensor:
        image = _decode_other(contents, decoding, python_fallback)
        return reduced(tf.shape(image)[:2], least_side, functools.partial(means, image))

    jpeg = functools.partial(_decode_jpeg, contents, decoding, least_side)
    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(contents), jpeg, other), [None, None, 3])


def as_pixels(image: tf.Tensor, decoding: Decoding = DECODING, view_size: int = 0) -> tf.Tensor:
    """uint8 `[H, W, 3]` of an example's image; one that is not encoded is never reduced."""
    if image.dtype == tf.string:
        return decode_image(image, decoding, view_size=view_size, python_fallback=True)
    return image


def refuse_bombs(contents: tf.Tensor, declared: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    """The same bytes; fails when run if `declared` (int64 [], pixels) is above `max_pixels`."""
    most = decoding.max_pixels
    fits = tf.debugging.Assert(
        declared <= most, [f"more than {most / 1e6:g} megapixels (--max_megapixels)"]
    )
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.identity(contents)


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image as its Exif orientation says.

    Args:
        image: `[H, W, 3]`.
        orientation: integer scalar in 1 to 8.
    """

    def turned() -> tf.Tensor:
        across = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        for axis, mirrored in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
            across = tf.cond(
                tf.reduce_any(orientation == tf.constant(mirrored, orientation.dtype)),
                functools.partial(tf.reverse, across, [axis]),
                functools.partial(tf.identity, across),
            )
        return across

    return tf.cond(orientation > 1, turned, lambda: image)


def _decode_jpeg(contents: tf.Tensor, decoding: Decoding, least_side: float) -> tf.Tensor:
    # A JPEG's header may be anywhere, so TensorFlow looks for it, and fails if there is none.
    size = tf.io.extract_jpeg_shape(contents)[:2]
    contents = refuse_bombs(contents, tf.reduce_prod(tf.cast(size, tf.int64)), decoding)

    def at(by: int) -> tf.Tensor:
        ratio = min(by, 8)  # the largest that decoding itself knows
        image = tf.io.decode_jpeg(contents, channels=3, ratio=ratio, dct_method=DCT)
        return means(image, by // ratio)

    return upright(reduced(size, least_side, at), exif_orientation(contents))


def _decode_other(contents: tf.Tensor, decoding: Decoding, python_fallback: bool) -> tf.Tensor:
    header = Header(contents)
    contents = refuse_bombs(contents, header.declared_pixels, decoding)
    return tf.switch_case(
        tf.where(header.is_png, 0, tf.where(header.is_plain_other, 1, 2)),
        [
            lambda: _decode_png(contents, header, decoding),
            lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
            lambda: (_decode_with_pillow if python_fallback else _refuse)(contents, decoding),
        ],
    )


def _decode_png(contents: tf.Tensor, header: Header, decoding: Decoding) -> tf.Tensor:
    def with_alpha() -> tf.Tensor:
        return _composite(tf.io.decode_png(contents, channels=4), decoding)

    def wide() -> tf.Tensor:
        levels = tf.io.decode_png(contents, channels=4, dtype=tf.uint16)
        colour = _to_eight_bits(tf.cast(levels[..., :3], tf.float32), decoding)
        alpha = tf.cast(levels[..., 3:] // 257, tf.uint8)
        return _composite(tf.concat([colour, alpha], -1), decoding)

    kind = tf.where(header.is_wide_png, 2, tf.cast(header.is_transparent_png, tf.int32))
    image = tf.switch_case(kind, [lambda: tf.io.decode_png(contents, channels=3), with_alpha, wide])
    return upright(image, exif_orientation(contents))


def _to_eight_bits(levels: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    """uint8 of float32 levels of 16 bits."""
    if decoding.sixteen_bits == "high_byte":
        return tf.cast(levels // 256.0, tf.uint8)
    least, greatest = tf.reduce_min(levels), tf.reduce_max(levels)
    scale = 255.0 / tf.maximum(greatest - least, 1.0)
    return tf.cast((levels - least) * scale + 0.5, tf.uint8)


def _composite(pixels: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    """uint8 `[H, W, 3]` of uint8 red, green, blue, alpha."""
    return tf.cast(_mixed(tf.cast(pixels, tf.int32), decoding), tf.uint8)


def _mixed(pixels: Any, decoding: Decoding) -> Any:
    """`_composite` in integers wider than a byte, of TensorFlow or NumPy."""
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    return (colour * alpha + decoding.background * (255 - alpha) + 127) // 255


def _refuse(contents: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    """Fails when run: the stand-in for Pillow in an exported model."""
    no = tf.debugging.Assert(
        False,
        [
            "Expected a JPEG, a PNG, or a BMP, GIF or WebP without palette, transparency, Exif "
            "data or animation. Received: other bytes, which this model cannot decode; convert "
            "the image, or pass its pixels to the signature serving_default."
        ],
    )
    with tf.control_dependencies([no] if no is not None else []):
        return tf.zeros([1, 1, 3], tf.uint8)


def _decode_with_pillow(contents: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    reader = functools.partial(read_with_pillow, decoding=decoding)
    return tf.numpy_function(reader, [contents], tf.uint8, stateful=False)


def read_with_pillow(contents: bytes | np.ndarray, decoding: Decoding) -> np.ndarray:
    """uint8 `[H, W, 3]` of any format that Pillow and its plug-ins read; see `decode_image`.

    Raises:
        ValueError: with the reason in a line.
    """
    from PIL import ImageOps

    # Called eagerly, the bytes come wrapped in an array.
    file = io.BytesIO(np.asarray(contents, object).item())
    try:
        with pillow().open(file) as image:
            if image.width * image.height > decoding.max_pixels:
                raise ValueError(
                    f"more than {decoding.max_pixels / 1e6:g} megapixels (--max_megapixels)"
                )
            return _eight_bit_rgb(ImageOps.exif_transpose(image), decoding)
    except Exception as error:  # Pillow's readers raise many kinds of errors for broken files.
        raise ValueError(unreadable_reason(file.getvalue()) or str(error)) from error


def _eight_bit_rgb(image: Any, decoding: Decoding) -> np.ndarray:
    if image.mode[0] in "IF":  # 16 or 32 bits, or floating point; one channel
        levels = np.nan_to_num(np.asarray(image, np.float32))[..., None]
        if decoding.sixteen_bits == "high_byte" and image.mode[0] == "I":
            return np.repeat((levels // 256).clip(0, 255).astype(np.uint8), 3, axis=-1)
        span = levels.max() - levels.min()
        levels = (levels - levels.min()) * (255.0 / (span or 1.0)) + 0.5
        return np.repeat(levels.astype(np.uint8), 3, axis=-1)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), np.uint8)
    return _mixed(np.asarray(image.convert("RGBA"), np.int32), decoding).astype(np.uint8)
