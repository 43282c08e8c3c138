"""Square views of images: where random crops lie, and how a part of an image is resized.

Randomness comes in as uniform numbers in `[0, 1)`, so that a view is a function of (seed, epoch,
index) alone (`ifnd_tf.distribute.stateless_random`). Everything runs in graph operations.

Resizing is bilinear with half-pixel centres. Plain views are antialiased by a triangle filter as
wide as the reduction, as in Pillow and torchvision. Random views that reduce by more than 2 are
means over the area of each new pixel, in less than half of the filter's time; up to 2, bilinear
weights read every pixel.
"""

import math

import tensorflow as tf

from ifnd_tf.data.decode import DECODING, Decoding, decode_image
from ifnd_tf.data.jpeg_window import decode_around, has_window
from ifnd_tf.data.recipes import Augmentation

# Tries at a crop that fits before the central one is taken, as in Inception and torchvision.
_CROP_TRIES = 10
_CROP_ASPECTS = (3 / 4, 4 / 3)
GEOMETRIC_DRAWS = 2 * _CROP_TRIES + 3

# The share of the short side that un-augmented views of larger images show (224 of 256).
_CENTRE_SHARE = 0.875

# The reduction up to which random views are bilinear.
_PLAIN_REDUCTION = 2


def crop_boxes(
    draws: tf.Tensor,
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    augmentation: Augmentation,
) -> tf.Tensor:
    """Random resized crop (Szegedy et al. 2015, as in torchvision): area, then aspect, then place.

    The area is uniform in [crop_min_area, 1] of the image's, the aspect log-uniform in
    [3/4, 4/3]; the first of ten tries that fits is taken, else the largest central crop
    whose aspect lies in that range.

    Args:
        draws: float32 `[..., GEOMETRIC_DRAWS]` in [0, 1).
        height: of the image, pixels; a number or an integer tensor that broadcasts to `[...]`.
        width: likewise.
        augmentation: gives `crop_min_area`.

    Returns:
        int32 `[..., 4]`: top, left, height, width in pixels, within the image.
    """
    full_h = tf.cast(height, tf.float32)[..., None]
    full_w = tf.cast(width, tf.float32)[..., None]
    low, high = (math.log(aspect) for aspect in _CROP_ASPECTS)
    minimum = augmentation.crop_min_area
    share = minimum + (1.0 - minimum) * draws[..., :_CROP_TRIES]
    aspect = tf.exp(low + (high - low) * draws[..., _CROP_TRIES : 2 * _CROP_TRIES])
    area = share * full_h * full_w
    tries_h = tf.maximum(tf.round(tf.sqrt(area / aspect)), 1.0)
    tries_w = tf.maximum(tf.round(tf.sqrt(area * aspect)), 1.0)
    fits = (tries_h <= full_h) & (tries_w <= full_w)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=-1, output_type=tf.int32)
    chosen = tf.one_hot(first, _CROP_TRIES, dtype=tf.float32)
    # one_hot and a sum instead of a gather: exact for these small integers, and fast on TPU.
    try_h = tf.reduce_sum(tries_h * chosen, axis=-1)
    try_w = tf.reduce_sum(tries_w * chosen, axis=-1)

    full_h, full_w = full_h[..., 0], full_w[..., 0]
    central_h = tf.minimum(full_h, tf.round(full_w / _CROP_ASPECTS[0]))
    central_w = tf.minimum(full_w, tf.round(full_h * _CROP_ASPECTS[1]))
    found = tf.reduce_any(fits, axis=-1)
    box_h = tf.where(found, try_h, central_h)
    box_w = tf.where(found, try_w, central_w)
    free_h, free_w = full_h - box_h, full_w - box_w
    # Draws are at most 1 - 2**-24, so the product stays below free + 1 in float32.
    top = tf.floor(draws[..., 2 * _CROP_TRIES] * (free_h + 1.0))
    left = tf.floor(draws[..., 2 * _CROP_TRIES + 1] * (free_w + 1.0))
    top = tf.where(found, top, tf.floor(free_h / 2))
    left = tf.where(found, left, tf.floor(free_w / 2))
    return tf.cast(tf.stack([top, left, box_h, box_w], axis=-1), tf.int32)


def flips(draws: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Which views are mirrored: bool `[...]`, from the draws that `crop_boxes` takes."""
    return draws[..., GEOMETRIC_DRAWS - 1] < augmentation.flip_probability


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
        lambda: _resize_plainly(crop, size, "area"),
        lambda: _resize_plainly(crop, size, "bilinear"),
    )
    # tf.reverse of axis 1 has a kernel of its own for 3 channels, 20 times faster than a slice.
    return tf.cond(mirrored, lambda: tf.reverse(view, [1]), lambda: view)


def cut_views(images: tf.Tensor, boxes: tf.Tensor, mirrored: tf.Tensor, size: int) -> tf.Tensor:
    """`cut_view` for V boxes of every image of a batch at once; enlarges only.

    Interpolation is linear in the pixels along each axis, so a view is R X C with the image X
    and two matrices of two weights a row. The products are faster than TensorFlow's
    crop_and_resize, for which XLA has no kernel, and give the same pixels under XLA. The rim of a
    view mixes in half a pixel from outside its box, where `cut_view` repeats the box's last pixel.

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
    # Beyond the image's edge its last pixel is repeated.
    at = tf.clip_by_value(at, 0.0, pixels - 1.0)
    return tf.nn.relu(1.0 - tf.abs(at[..., None] - tf.range(pixels, dtype=tf.float32)))


def two_views(
    content: tf.Tensor,
    draws: tf.Tensor,
    augmentation: Augmentation,
    size: int,
    decoding: Decoding = DECODING,
) -> tf.Tensor:
    """Two random crops of one image.

    Of an upright JPEG that is decoded at full size, only the rectangle around both crops is
    decoded; its pixels are those of the whole image.

    Args:
        content: string scalar (encoded) or uint8 `[H, W, 3]`.
        draws: float32 `[2, GEOMETRIC_DRAWS]` in [0, 1).
        augmentation: gives the crop's and the flip's parameters.
        size: S in pixels.
        decoding: how an encoded image becomes pixels.

    Returns:
        uint8 `[2, S, S, 3]`.
    """

    def boxes_in(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return crop_boxes(draws, height, width, augmentation)

    def whole(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(image)
        return image, boxes_in(shape[0], shape[1])

    if content.dtype == tf.string:
        image, boxes = tf.cond(
            has_window(content, decoding, size),
            lambda: decode_around(content, boxes_in, decoding),
            lambda: whole(decode_image(content, decoding, view_size=size, python_fallback=True)),
        )
        image = tf.ensure_shape(image, [None, None, 3])
    else:
        image, boxes = whole(content)
    return both_views(image, boxes, flips(draws, augmentation), size)


def both_views(image: tf.Tensor, boxes: tf.Tensor, mirrored: tf.Tensor, size: int) -> tf.Tensor:
    """`cut_view` for two boxes int32 `[2, 4]` of an image: uint8 `[2, S, S, 3]`."""
    return tf.stack([cut_view(image, boxes[v], mirrored[v], size) for v in range(2)])


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    resized = _to_bytes(tf.image.resize(image, [size, size], antialias=True))
    return tf.ensure_shape(resized, [*image.shape[:-3], size, size, 3])


def _resize_plainly(image: tf.Tensor, size: int, method: str) -> tf.Tensor:
    # No clip as in `_to_bytes`: it would take a tenth of the time, and on a CPU the weights sum to
    # 1 closely enough.
    resized = tf.cast(tf.image.resize(image, [size, size], method) + 0.499, tf.uint8)
    return tf.ensure_shape(resized, [size, size, 3])


def _to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    # Weights are convex up to rounding: the clip guards 255.5 against wrapping to 0.
    return tf.cast(tf.clip_by_value(pixels + 0.5, 0.0, 255.0), tf.uint8)
