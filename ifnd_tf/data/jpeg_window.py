"""The part of a JPEG that holds some boxes, decoded without the rest."""

from collections.abc import Callable

import tensorflow as tf

from ifnd_tf.data.decode import DCT, Decoding, refuse_bombs
from ifnd_tf.data.image_headers import exif_orientation
from ifnd_tf.data.reduction import halvings

# Pixels around the boxes that are decoded with them: without these neighbours, colours at the edge
# would differ from those of the whole image by up to two levels.
_RIM = 2


def has_window(content: tf.Tensor, decoding: Decoding, view_size: int) -> tf.Tensor:
    """Whether bytes are an upright JPEG that is decoded in full for views of S pixels: bool []."""

    def upright_in_full() -> tf.Tensor:
        size = tf.io.extract_jpeg_shape(content)[:2]
        halved = halvings(size, decoding.least_side(view_size))
        return (halved == 0) & (exif_orientation(content) == 1)

    return tf.cond(tf.io.is_jpeg(content), upright_in_full, lambda: tf.constant(False))


def decode_around(
    content: tf.Tensor, boxes_in: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], decoding: Decoding
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a JPEG's smallest rectangle around all boxes; the boxes relative to it.

    Args:
        content: string scalar, for which `has_window` holds.
        boxes_in: height and width of the image -> int32 `[n, 4]`: top, left, height, width.
        decoding: how large an image may be.

    Returns:
        uint8 `[h, w, 3]`, the pixels of the whole image there, and int32 `[n, 4]`.
    """
    size = tf.io.extract_jpeg_shape(content)[:2]
    content = refuse_bombs(content, tf.reduce_prod(tf.cast(size, tf.int64)), decoding)
    boxes = boxes_in(size[0], size[1])
    corner = tf.maximum(tf.reduce_min(boxes[:, :2], axis=0) - _RIM, 0)
    end = tf.minimum(tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) + _RIM, size)
    window = tf.concat([corner, end - corner], 0)
    image = tf.io.decode_and_crop_jpeg(content, window, channels=3, dct_method=DCT)
    return image, boxes - tf.concat([corner, [0, 0]], 0)
