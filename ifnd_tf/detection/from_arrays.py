"""False negative detection for images in memory and any embedding function."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.detection.detectors import Parts
from ifnd_tf.detection.detectors.ifnd import Incremental
from ifnd_tf.detection.embedding_clusters import TableClusters
from ifnd_tf.detection.embeddings import EmbeddingTable


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
) -> Incremental:
    """A detector for `IncrementalDetection` that clusters what `embed` makes of an array.

    Args:
        embed: rows of `images` `[b, ...]` -> embeddings `[b, D]`; brought to unit length here.
        images: `[N, ...]`, by the index that the model's `pseudo_labels` are kept by.
        width: D.
        num_clusters: K of each of the L levels, ascending.
        batch_size: rows embedded at a time.
        scope: "global" or "cluster"; see `pseudo_labels.accept`.
        confidence_temperature: tau_c > 0.
        iterations: of k-means, >= 1.
        seed: of the first centroids.

    Returns:
        The detector, on the current default strategy.
    """
    count = len(images)
    padded = np.full(-(-count // batch_size) * batch_size, -1, np.int32)
    padded[:count] = np.arange(count)

    def one_pass() -> Iterator[dict[str, tf.Tensor]]:
        for index in padded.reshape(-1, batch_size):
            rows = images[np.maximum(index, 0)]
            yield {"images": tf.constant(rows), "index": tf.constant(index)}

    def unit(rows: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(tf.cast(embed(rows), tf.float32), axis=-1)

    def clusters() -> TableClusters:
        table = EmbeddingTable(
            tf.distribute.get_strategy(),
            one_pass,
            unit,
            num_examples=count,
            rows=len(padded),
            batch_size=batch_size,
            width=width,
            seed=seed,
        )
        return TableClusters(
            table,
            confidence_temperature=confidence_temperature,
            iterations=iterations,
            seed=seed,
        )

    return Incremental(
        Parts(
            true_labels=np.full(count, -1, np.int32),
            clusters=clusters,
            num_clusters=list(num_clusters),
            hierarchy="independent",
            scope=scope,
            seed=seed,
        )
    )
