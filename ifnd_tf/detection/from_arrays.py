"""False negative detection for images in memory and any embedding function."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.detection.detectors import ClusterDetector
from ifnd_tf.detection.embeddings import ImagePass
from ifnd_tf.detection.pseudo_labels import SCOPES
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.errors import UserError


def array_detector(
    embed: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    *,
    width: int,
    num_clusters: Sequence[int],
    batch_size: int = 256,
    scope: str = "global",
    confidence_temperature: float = 0.2,
    iterations: int = 20,
    seed: int = 0,
) -> ClusterDetector:
    """A detector for `IncrementalDetection` that clusters the embeddings of an array.

    Args:
        embed: rows of `images` `[b, ...]` -> embeddings `[b, D]`; brought to unit length here.
        images: `[N, ...]`, in the order of the model's `pseudo_labels`.
        width: D.
        num_clusters: K of each of the L levels, ascending.
        batch_size: rows embedded at a time.
        scope: "global" or "cluster"; see `pseudo_labels.accept`.
        confidence_temperature: tau_c > 0.
        iterations: of k-means, >= 1.
        seed: of the first centroids.

    Returns:
        The detector, on the current default strategy.

    Raises:
        UserError: if an argument is out of its range.
    """
    _check(len(images), num_clusters, scope, confidence_temperature, batch_size, iterations)

    def unit(rows: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(tf.cast(embed(rows), tf.float32), axis=-1)

    table = ImagePass(
        tf.distribute.get_strategy(),
        lambda: _batches(images, batch_size),
        unit,
        batch_size=batch_size,
        num_examples=len(images),
        rows=-(-len(images) // batch_size) * batch_size,
        width=width,
        seed=seed,
    )
    kmeans = ShardedKMeans(
        table, confidence_temperature=confidence_temperature, iterations=iterations, seed=seed
    )
    return ClusterDetector(kmeans, num_clusters, scope=scope)


def _check(
    num_images: int,
    num_clusters: Sequence[int],
    scope: str,
    confidence_temperature: float,
    batch_size: int,
    iterations: int,
) -> None:
    """Raises `UserError` for an argument out of its range."""
    levels, ascending = list(num_clusters), sorted(set(num_clusters))
    if not levels or levels != ascending or levels[0] < 1 or levels[-1] > num_images:
        raise UserError(
            f"num_clusters: expected ascending numbers from 1 to {num_images}, the number of "
            f"images. Received: {num_clusters}."
        )
    if scope not in SCOPES:
        raise UserError(f"scope: expected one of {', '.join(SCOPES)}. Received: {scope!r}.")
    if not confidence_temperature > 0:
        raise UserError(
            f"confidence_temperature: expected a value > 0. Received: {confidence_temperature}."
        )
    for name, value in (("batch_size", batch_size), ("iterations", iterations)):
        if value < 1:
            raise UserError(f"{name}: expected a value >= 1. Received: {value}.")


def _batches(images: np.ndarray, batch_size: int) -> Iterator[dict[str, Any]]:
    """Full batches of all images in order; the last is padded with index -1."""
    for start in range(0, len(images), batch_size):
        index = np.arange(start, start + batch_size, dtype=np.int32)
        index[index >= len(images)] = -1
        rows = images[np.maximum(index, 0)]
        yield {"images": tf.constant(rows), "index": tf.constant(index)}
