"""Sizes, colours and copies of the images of a data set, measured on a sample of them."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.image_formats import more_than_eight_bits, pillow
from ifnd_tf.data.scan import examples, none_readable
from ifnd_tf.data.source import Source

# A standard deviation of pixels in [0, 1]: two of 255 levels.
_NO_VARIANCE = 2 / 255


class ImageStatistics(NamedTuple):
    """Statistics of n sampled images.

    Attributes:
        heights, widths: int `[n]`, in pixels.
        mean, spread: float `[3]`, mean and standard deviation of all pixels' channels in [0, 1].
        gray_share: share of the images without colour.
        copies: how many images equal an earlier one, pixel by pixel.
        plain: how many have next to no variance.
        wide: how many have more than 8 bits a channel.
    """

    heights: np.ndarray
    widths: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    gray_share: float
    copies: int
    plain: int
    wide: int


def image_statistics(source: Source, count: int = 256) -> ImageStatistics:
    """Decodes up to `count` readable images, spread over the data set where that costs nothing.

    Args:
        source: the examples.
        count: how many.

    Raises:
        UserError: if none of them can be read.
    """
    sizes, levels, gray, plain, wide, seen = [], np.zeros([3, 256]), 0, 0, 0, set()
    for stored, image in _sample(source, count):
        # Counts of levels and a hash: a photo's pixels as floats take gigabytes.
        found = np.reshape(pillow().fromarray(image).histogram(), [3, 256])
        sizes.append(image.shape[:2])
        levels += found
        gray += bool((image[..., :1] == image).all())
        plain += bool(_moments(found.sum(axis=0))[1] < _NO_VARIANCE)
        wide += isinstance(stored, bytes) and more_than_eight_bits(stored)
        seen.add((image.shape, hashlib.sha256(image.tobytes()).digest()))
    if not sizes:
        raise none_readable(source, "those tried")
    mean, spread = _moments(levels)
    heights, widths = np.array(sizes).T
    return ImageStatistics(
        heights, widths, mean, spread, gray / len(sizes), len(sizes) - len(seen), plain, wide
    )


def _moments(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[...]` in [0, 1] of counts of levels `[..., 256]`."""
    unit = np.arange(256) / 255
    share = levels / levels.sum(axis=-1, keepdims=True)
    mean = share @ unit
    return mean, np.sqrt(np.maximum(share @ unit**2 - mean**2, 0.0))


def _sample(source: Source, count: int) -> Iterator[tuple[bytes | np.ndarray, np.ndarray]]:
    """Pairs of an image as it is stored and its pixels."""
    if source.random_access:
        readable = source.readable
        rows = readable[np.linspace(0, len(readable) - 1, min(count, len(readable))).astype(int)]
        for row in rows:
            try:
                stored = source.fetch(row)
                pair = stored.numpy(), np.asarray(source.decode(stored))
            except (tf.errors.OpError, ValueError):  # not scanned yet
                continue
            yield pair
        return
    both = examples(source).map(lambda each: (each["image"], source.decode(each["image"])))
    yield from both.ignore_errors().take(count).as_numpy_iterator()
