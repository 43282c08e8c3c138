"""Sizes, colours and copies of the images of a data set, measured on a sample of them."""

from typing import NamedTuple

import numpy as np

from ifnd_tf.data.scan import examples
from ifnd_tf.data.source import Source


class ImageStatistics(NamedTuple):
    """Of n sampled images.

    Attributes:
        heights, widths: int `[n]`, in pixels.
        mean, spread: float `[3]`, mean and standard deviation of all pixels' channels in [0, 1].
        gray_share: share of the images without colour.
        copies: how many of them equal an earlier one, pixel by pixel.
    """

    heights: np.ndarray
    widths: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    gray_share: float
    copies: int


def image_statistics(source: Source, count: int = 256) -> ImageStatistics:
    """Decodes up to `count` readable images, spread over the data set where that costs nothing.

    Args:
        source: the examples; at least one is readable.
        count: how many.
    """
    if source.random_access:
        readable = source.readable
        rows = readable[np.linspace(0, len(readable) - 1, min(count, len(readable))).astype(int)]
        images = (np.asarray(source.decode(source.fetch(row))) for row in rows)
    else:
        decoded = examples(source).map(lambda example: source.decode(example["image"]))
        images = decoded.ignore_errors().take(count).as_numpy_iterator()
    sizes, moments, gray, seen = [], np.zeros([3, 3]), 0, set()
    for image in images:
        unit = image.reshape(-1, 3) / 255.0
        sizes.append(image.shape[:2])
        moments += [np.full(3, len(unit)), unit.sum(0), (unit**2).sum(0)]
        gray += bool((image[..., :1] == image).all())
        seen.add((image.shape, image.tobytes()))
    mean, square = moments[1:] / moments[0]
    heights, widths = np.array(sizes).T
    return ImageStatistics(
        heights, widths, mean, np.sqrt(np.maximum(square - mean**2, 0.0)),
        gray / len(sizes), len(sizes) - len(seen),
    )  # fmt: skip
