"""Random changes of colour and sharpness, and normalisation.

Randomness comes in as uniform numbers in `[0, 1)`, as in `crops`. Everything is vectorised over the
batch, has static shapes and compiles under XLA: it runs in tf.data on the host or inside
`train_step` on the device.

Colour jitter is one affine map of RGB per image. With luma weights w (w . 1 = 1),
brightness scales everything, contrast pulls towards the image's mean luma, saturation
scales chroma and hue turns chroma in the YIQ plane (as NVIDIA DALI does); brightness and
contrast act on luma and chroma alike, saturation and hue on chroma alone and keep luma.
So the four commute, the random order that torchvision draws has no effect, and

    x' = b f (w.x) 1  +  b f s R(hue) (x - (w.x) 1)  +  b (1 - f) (w.mean(x)) 1.

Deviations from torchvision: one clip to [0, 1] at the end instead of one after each
operation, and hue as a rotation in YIQ instead of a shift in HSV.
"""

import math

import numpy as np
import tensorflow as tf

from ifnd_tf.data.recipes import Augmentation

PHOTOMETRIC_DRAWS = 8

# Size at which blur strengths are given, in pixels.
_BLUR_REFERENCE_SIZE = 224

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

_LUMA = np.array([0.299, 0.587, 0.114])


def _hue_generator() -> np.ndarray:
    """The 3x3 matrix that turns an RGB vector's chroma by 90 degrees in the YIQ plane.

    I and Q are U = 0.493 (B - Y) and V = 0.877 (R - Y) turned by 33 degrees (FCC, NTSC), so
    a turn in the IQ plane is the same turn in the UV plane.
    """
    red, _, blue = np.eye(3)
    to_yvu = np.stack([_LUMA, 0.877 * (red - _LUMA), 0.493 * (blue - _LUMA)])
    quarter_turn = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return (np.linalg.inv(to_yvu) @ quarter_turn @ to_yvu).astype(np.float32)


_QUARTER_TURN = _hue_generator()


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Pixels to the scale encoders see: ImageNet's mean 0 and standard deviation 1 per channel.

    Args:
        images: `[..., W, 3]`, any number type, in [0, 255]; W static.

    Returns:
        float32 `[..., W, 3]`.
    """
    images = tf.convert_to_tensor(images)
    return _standardise(tf.cast(images, tf.float32) * (1.0 / 255))


def _standardise(images: tf.Tensor) -> tf.Tensor:
    """`(images - MEAN) / STD` for images `[..., W, 3]` in [0, 1]."""
    shape, width = tf.shape(images), images.shape[-2]
    # Whole rows of W * 3 numbers: a broadcast over the 3 channels alone is 5x slower on CPU.
    rows = tf.reshape(images, tf.concat([shape[:-2], [width * 3]], 0))
    scale, shift = np.tile(1.0 / STD, width), np.tile(-MEAN / STD, width)
    return tf.ensure_shape(tf.reshape(rows * scale + shift, shape), images.shape)


def augment(
    images: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation, *, static: bool = True
) -> tf.Tensor:
    """Colour jitter, dropping of colour, blur and normalisation of a batch of crops.

    Matrix products of float32 run in bfloat16 passes on TPU, so a pixel may be off there by
    about one grey level of 256; nothing here depends on more.

    Args:
        images: uint8 `[b, S, S, 3]`.
        draws: float32 `[b, PHOTOMETRIC_DRAWS]` in [0, 1).
        augmentation: probabilities and strengths; a change of probability 0 costs nothing.
        static: whether all shapes must be known, as on a device. If not, only the views that
            are to be blurred pass through the blur, three quarters of the work at 224 pixels.

    Returns:
        float32 `[b, S, S, 3]`, normalised as by `normalise`.
    """
    size = images.shape[-2]
    pixels = tf.cast(images, tf.float32) * (1.0 / 255)
    if augmentation.jitter_probability > 0 or augmentation.gray_probability > 0:
        flat = tf.reshape(pixels, [-1, size * size, 3])
        matrix, offset = _colour_map(flat, draws, augmentation)
        flat = tf.reshape(tf.matmul(flat, matrix), [-1, size * size * 3]) + offset[:, None]
        pixels = tf.reshape(tf.clip_by_value(flat, 0.0, 1.0), [-1, size, size, 3])
    if augmentation.blur_probability > 0:
        if static:
            pixels = _blur(pixels, draws[:, 6], draws[:, 7], augmentation)
        else:
            drawn = tf.where(draws[:, 6] < augmentation.blur_probability)
            some, few = tf.gather_nd(pixels, drawn), tf.gather_nd(draws, drawn)
            blurred = _blur(some, few[:, 6], few[:, 7], augmentation)
            pixels = tf.tensor_scatter_nd_update(pixels, drawn, blurred)
    return tf.ensure_shape(_standardise(pixels), images.shape)


def _colour_map(
    flat: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """The module docstring's affine map for row vectors: matrices [b, 3, 3], offsets [b]."""
    jittered = draws[:, 0] < augmentation.jitter_probability

    def factor(column: int, strength: float) -> tf.Tensor:
        low = max(0.0, 1.0 - strength)
        drawn = low + (1.0 + strength - low) * draws[:, column]
        return tf.where(jittered, drawn, 1.0)

    brightness = factor(1, augmentation.jitter_brightness)
    contrast = factor(2, augmentation.jitter_contrast)
    saturation = factor(3, augmentation.jitter_saturation)
    turn = 2.0 * math.pi * augmentation.jitter_hue * (2.0 * draws[:, 4] - 1.0)
    turn = tf.where(jittered, turn, 0.0)
    saturation = tf.where(draws[:, 5] < augmentation.gray_probability, 0.0, saturation)

    luma_gain = brightness * contrast
    chroma_gain = luma_gain * saturation * tf.cos(turn)
    chroma_turn = luma_gain * saturation * tf.sin(turn)
    to_luma = np.tile(_LUMA[:, None], (1, 3)).astype(np.float32)
    # In this form an image that is left alone gets exactly the identity.
    matrix = (
        chroma_gain[:, None, None] * np.eye(3, dtype=np.float32)
        + (luma_gain - chroma_gain)[:, None, None] * to_luma
        + chroma_turn[:, None, None] * _QUARTER_TURN.T
    )
    if augmentation.jitter_probability == 0 or augmentation.jitter_contrast == 0:
        return matrix, tf.zeros_like(brightness)
    mean_luma = tf.reduce_sum(tf.reduce_mean(flat, axis=1) * _LUMA.astype(np.float32), axis=-1)
    return matrix, brightness * (1.0 - contrast) * mean_luma


def _blur(
    pixels: tf.Tensor, chance: tf.Tensor, strength: tf.Tensor, augmentation: Augmentation
) -> tf.Tensor:
    """Gaussian blur as two products with banded matrices whose rows sum to 1, at edges too."""
    size = pixels.shape[-2]
    low, high = (
        sigma * size / _BLUR_REFERENCE_SIZE
        for sigma in (augmentation.blur_sigma_min, augmentation.blur_sigma_max)
    )
    sigma = low + (high - low) * strength
    offsets = np.arange(size, dtype=np.float32)
    squares = np.square(offsets[:, None] - offsets[None, :])
    bands = tf.exp(squares * (-0.5 / tf.square(sigma))[:, None, None])
    bands /= tf.reduce_sum(bands, axis=-1, keepdims=True)
    blurred = (chance < augmentation.blur_probability)[:, None, None]
    bands = tf.where(blurred, bands, np.eye(size, dtype=np.float32))
    for _ in range(2):  # Down the columns; then, turned over, along the rows.
        mixed = tf.matmul(bands, tf.reshape(pixels, [-1, size, size * 3]))
        pixels = tf.transpose(tf.reshape(mixed, [-1, size, size, 3]), [0, 2, 1, 3])
    return pixels
