"""The header fields of an encoded image, read before decoding, in graph operations."""

from typing import NamedTuple

import tensorflow as tf

# Bytes from the start that hold all header fields below.
_HEADER_BYTES = 32

# Exif data and a PNG's transparency come before the pixels, behind little else.
_METADATA_BYTES = 1 << 15


class _Field(NamedTuple):
    """A number in a header: `bits` bits of some bytes, above the lowest `shift`; `plus` is added.

    A signed number has four bytes; its absolute value is meant.
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

_PNG_BITS, _PNG_COLOUR_TYPE = _Field(range(24, 25)), _Field(range(25, 26))
_BMP_HEADER_SIZE, _BMP_COMPRESSION = _Field(range(14, 15)), _Field(range(30, 31))
_BMP_BITS_PER_PIXEL = _Field(range(28, 29))
# Flags of the extended header (VP8X), and one of the lossless header (VP8L).
_WEBP_ANIMATED, _WEBP_EXIF, _WEBP_ALPHA = (
    _Field(range(20, 21), shift, bits=1) for shift in (1, 3, 4)
)
_WEBP_LOSSLESS_ALPHA = _Field(range(24, 25), shift=4, bits=1)

# A GIF's graphic control block whose transparency flag is set, before the first frame. \C is any
# byte; the block's second byte, 0xF9, cannot be written in a pattern of UTF-8.
_TRANSPARENT_GIF = r"(?s)\C*!\C\x04[\x01\x05\x09\x0d]\C\C\C\x00\C*"
_GIF_START_BYTES = 900


class Header:
    """The first bytes of a file, zeros where there are none.

    Args:
        contents: string scalar, the file's bytes.
    """

    def __init__(self, contents: tf.Tensor):
        self._contents = contents
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

    @property
    def is_png(self) -> tf.Tensor:
        """bool []."""
        return self.has(0, b"\x89PNG")

    @property
    def is_wide_png(self) -> tf.Tensor:
        """Whether a PNG has 16 bits a channel: bool []."""
        return self.value(_PNG_BITS) == 16

    @property
    def is_transparent_png(self) -> tf.Tensor:
        """Whether a PNG may have transparent pixels: bool []."""
        marked = _contains(tf.strings.substr(self._contents, 0, _METADATA_BYTES), "tRNS")
        return (self.value(_PNG_COLOUR_TYPE) >= 4) | marked

    @property
    def is_plain_other(self) -> tf.Tensor:
        """Whether it is a BMP, GIF or WebP that TensorFlow reads as Pillow does: bool [].

        TensorFlow takes a palette's numbers for grey levels, paints transparent pixels black and
        knows no Exif orientation.
        """
        compression = self.value(_BMP_COMPRESSION)
        bmp = (
            self.has(0, b"BM")
            & (self.value(_BMP_HEADER_SIZE) >= 40)
            & (self.value(_BMP_BITS_PER_PIXEL) == 24)
            & (compression == 0)
        )
        start = tf.strings.substr(self._contents, 0, _GIF_START_BYTES)
        gif = self.has(0, b"GIF8") & ~tf.strings.regex_full_match(start, _TRANSPARENT_GIF)
        flags = (_WEBP_ANIMATED, _WEBP_EXIF, _WEBP_ALPHA)
        extended = tf.add_n([self.value(flag) for flag in flags]) > 0
        webp = self.has(0, b"RIFF") & (
            self.has(8, b"WEBPVP8 ")
            | (self.has(8, b"WEBPVP8X") & ~extended)
            | (self.has(8, b"WEBPVP8L") & (self.value(_WEBP_LOSSLESS_ALPHA) == 0))
        )
        return bmp | gif | webp

    @property
    def declared_pixels(self) -> tf.Tensor:
        """int64 []: height times width; 0 for a format that is not known here, JPEG included."""
        return tf.add_n(
            [
                tf.where(
                    self.has(layout.place, layout.signature),
                    self.value(layout.width) * self.value(layout.height),
                    tf.constant(0, tf.int64),
                )
                for layout in _LAYOUTS
            ]
        )


def _contains(contents: tf.Tensor, text: str) -> tf.Tensor:
    return tf.strings.regex_full_match(contents, rf"(?s)\C*{text}\C*")


def exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The Exif orientation of a JPEG or PNG (tag 274): int64 [] in 1 to 8, 1 where there is none.

    Args:
        contents: string scalar, the file's bytes.
    """
    head = tf.strings.substr(contents, 0, _METADATA_BYTES)
    # Most files have no Exif data; looking for the word takes a hundredth of walking through.
    return tf.cond(
        _contains(head, "(?:Exif|eXIf)"),
        lambda: _orientation(head),
        lambda: tf.constant(1, tf.int64),
    )


def _orientation(head: tf.Tensor) -> tf.Tensor:
    # Zeros follow, so that broken offsets read zeros and not past the end.
    data = tf.pad(tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64), [[0, 1 << 16]])
    size = tf.cast(tf.strings.length(head), tf.int64)
    jpeg = data[0] == 0xFF

    def where_jpeg(yes: int, no: int) -> tf.Tensor:
        return tf.where(jpeg, tf.constant(yes, tf.int64), tf.constant(no, tf.int64))

    def number(at: tf.Tensor, count: int, big: bool | tf.Tensor = True) -> tf.Tensor:
        """`count` bytes as an unsigned number; `big`: the most significant first."""
        found = data[at : at + count]
        return tf.reduce_sum(
            tf.where(big, found[::-1], found)
            * tf.constant([256**i for i in range(count)], tf.int64)
        )

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        in_jpeg = (data[at + 1] == 0xE1) & (number(at + 4, 4) == int.from_bytes(b"Exif", "big"))
        return tf.where(jpeg, in_jpeg, number(at + 4, 4) == int.from_bytes(b"eXIf", "big"))

    def unfinished(at: tf.Tensor) -> tf.Tensor:
        pixels = tf.where(jpeg, (data[at] != 0xFF) | (data[at + 1] == 0xDA), False)
        return (at < size) & ~is_exif(at) & ~pixels

    def following(at: tf.Tensor) -> tuple[tf.Tensor]:
        after = tf.where(jpeg, at + 2 + number(at + 2, 2), at + 12 + number(at, 4))
        return (tf.minimum(after, size),)

    (at,) = tf.while_loop(unfinished, following, (where_jpeg(2, 8),), parallel_iterations=1)
    start = tf.minimum(at + where_jpeg(10, 8), size)
    big = data[start] == ord("M")
    directory = start + tf.minimum(number(start + 4, 4, big), size - start)
    count = number(directory, 2, big)
    entries = tf.reshape(data[directory + 2 :][: 12 * tf.minimum(count, 4096)], [-1, 12])

    def column(first: int) -> tf.Tensor:
        high, low = entries[:, first], entries[:, first + 1]
        return tf.where(big, high * 256 + low, low * 256 + high)

    # Type 3 is an unsigned number of 16 bits.
    values = tf.where((column(0) == 274) & (column(2) == 3), column(8), tf.zeros_like(column(8)))
    value = tf.reduce_max(tf.concat([values, tf.zeros([1], tf.int64)], 0))
    found = (at < size) & is_exif(at) & (value >= 1) & (value <= 8)
    return tf.where(found, value, tf.ones_like(value))
