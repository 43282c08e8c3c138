"""Encoded images to pixels, in graph operations; Pillow for what TensorFlow does not read."""

import io
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Pillow's limit too: a quarter of a gigabyte of RGB. A few hundred bytes may declare more.
MOST_PIXELS = 89_478_485

# TensorFlow's default transform is up to 10 levels off what Pillow and libjpeg give, and no faster.
DCT = "INTEGER_ACCURATE"

# Bytes from the start that hold all header fields below.
_HEADER_BYTES = 32


class _Field(NamedTuple):
    """A number in a header: `bits` of some bytes above the lowest `shift`, increased by `plus`.

    A signed number has four bytes and counts by its size.
    """

    places: range  # of the bytes, the least significant first
    shift: int = 0
    bits: int = 32
    plus: int = 0
    signed: bool = False


class _Layout(NamedTuple):
    """The fields of width and height in the header of files with `signature` at a place."""

    place: int
    signature: bytes
    width: _Field
    height: _Field


_LAYOUTS = (
    _Layout(0, b"\x89PNG", _Field(range(19, 15, -1)), _Field(range(23, 19, -1))),
    _Layout(0, b"GIF8", _Field(range(6, 8)), _Field(range(8, 10))),
    # The height is negative for rows from the top.
    _Layout(0, b"BM", _Field(range(18, 22)), _Field(range(22, 26), signed=True)),
    _Layout(8, b"WEBPVP8X", _Field(range(24, 27), plus=1), _Field(range(27, 30), plus=1)),
    _Layout(
        8, b"WEBPVP8L",
        _Field(range(21, 25), bits=14, plus=1), _Field(range(21, 25), shift=14, bits=14, plus=1),
    ),
    _Layout(8, b"WEBPVP8 ", _Field(range(26, 28), bits=14), _Field(range(28, 30), bits=14)),
)  # fmt: skip

_BMP_HEADER_SIZE, _BMP_COMPRESSION = _Field(range(14, 15)), _Field(range(30, 31))
_BMP_BITS_PER_PIXEL = _Field(range(28, 29))
# Flags of the extended header (VP8X), and one of the lossless header (VP8L).
_WEBP_ANIMATED, _WEBP_ALPHA = (_Field(range(20, 21), shift, bits=1) for shift in (1, 4))
_WEBP_LOSSLESS_ALPHA = _Field(range(24, 25), shift=4, bits=1)


class _Header:
    """The first bytes of a file, zeros where there are none."""

    def __init__(self, contents: tf.Tensor):
        head = tf.strings.join([tf.strings.substr(contents, 0, _HEADER_BYTES), b"\0" * 32])
        head = tf.strings.substr(head, 0, _HEADER_BYTES)
        self._bytes = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64)

    def has(self, place: int, text: bytes) -> tf.Tensor:
        """Whether `text` stands at a place: bool []."""
        found = self._bytes[place : place + len(text)]
        return tf.reduce_all(found == tf.constant(list(text), tf.int64))

    def value(self, field: _Field) -> tf.Tensor:
        """int64 [] of a field."""
        number = sum(self._bytes[place] * 256**i for i, place in enumerate(field.places))
        if field.signed:
            return tf.minimum(number, 2**32 - number)
        return number // 2**field.shift % 2**field.bits + field.plus


def decode_image(contents: tf.Tensor, *, python_fallback: bool = False) -> tf.Tensor:
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
    contents = refuse_bombs(contents, declared_pixels(contents))

    def decode_other() -> tf.Tensor:
        def by_tensorflow() -> tf.Tensor:
            return tf.io.decode_image(contents, channels=3, expand_animations=False)

        if not python_fallback:
            return by_tensorflow()
        return tf.cond(
            _needs_pillow(contents),
            lambda: tf.numpy_function(_decode_with_pillow, [contents], tf.uint8, stateful=False),
            by_tensorflow,
        )

    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=DCT),
        decode_other,
    )
    # decode_image leaves the rank open: GIF and WebP could be animations.
    return tf.ensure_shape(image, [None, None, 3])


def as_pixels(image: tf.Tensor) -> tf.Tensor:
    """uint8 `[H, W, 3]` of an example's image, be it encoded or not."""
    return decode_image(image, python_fallback=True) if image.dtype == tf.string else image


def declared_pixels(contents: tf.Tensor) -> tf.Tensor:
    """int64 []: height times width, as the header has them; 0 for what is no image.

    A JPEG's header may be anywhere, so TensorFlow looks for it, and fails if there is none.
    """

    def other() -> tf.Tensor:
        header = _Header(contents)
        return tf.add_n(
            [
                tf.where(
                    header.has(layout.place, layout.signature),
                    header.value(layout.width) * header.value(layout.height),
                    0,
                )
                for layout in _LAYOUTS
            ]
        )

    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)),
        other,
    )


def refuse_bombs(contents: tf.Tensor, declared: tf.Tensor) -> tf.Tensor:
    """The same bytes, unless they declare a decompression bomb: int64 [], pixels."""
    fits = tf.debugging.Assert(
        declared <= MOST_PIXELS, [f"more than {MOST_PIXELS} pixels declared"]
    )
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.identity(contents)


def _needs_pillow(contents: tf.Tensor) -> tf.Tensor:
    """Whether the bytes are a BMP or WebP of a kind that TensorFlow has no operation for."""
    header = _Header(contents)
    compression = header.value(_BMP_COMPRESSION)
    plain_bmp = (
        (header.value(_BMP_HEADER_SIZE) >= 40)
        & (header.value(_BMP_BITS_PER_PIXEL) >= 24)
        & ((compression == 0) | (compression == 3))
    )
    extended = header.value(_WEBP_ANIMATED) + header.value(_WEBP_ALPHA) > 0
    lossless = header.value(_WEBP_LOSSLESS_ALPHA) > 0
    other_webp = header.has(0, b"RIFF") & (
        (header.has(8, b"WEBPVP8X") & extended) | (header.has(8, b"WEBPVP8L") & lossless)
    )
    return (header.has(0, b"BM") & ~plain_bmp) | other_webp


def _decode_with_pillow(contents: bytes | np.ndarray) -> np.ndarray:
    from PIL import Image

    try:
        # Called eagerly, the bytes come wrapped in an array.
        with Image.open(io.BytesIO(np.asarray(contents, object).item())) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # Pillow's readers raise many kinds of errors for broken files.
        raise ValueError(f"{type(error).__name__}: {error}") from error
