"""The method's own detection: clusters, and the surest of their members first."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.detection import pseudo_labels
from ifnd_tf.detection.detectors import Detection, Detector, Parts
from ifnd_tf.detection.embedding_clusters import Clustering


class Incremental(Detector):
    """`--detector=ifnd`: k-means clusters of the embeddings, the most confident first.

    Source: IFND (Chen et al., ICLR 2022), steps 1 to 4 of the method.
    """

    clusters = True

    def __init__(self, parts: Parts):
        super().__init__(parts)
        self.table_clusters = parts.clusters()
        self._num_clusters = tuple(parts.num_clusters)
        self.num_levels = len(self._num_clusters)
        self._nest, self._scope = parts.hierarchy == "nested", parts.scope
        table = self.table_clusters.table
        # Checkpointed: a resumed run must start its next k-means where this one ended.
        with table.strategy.scope():
            self._started = tf.Variable(False, trainable=False, name="started")
            self._centroids = [
                tf.Variable(tf.zeros([k, table.width]), trainable=False, name=f"centroids_{k}")
                for k in parts.num_clusters
            ]

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        with phase("embedding"):
            self.table_clusters.table.refresh()
        with phase("clustering"):
            levels = self._nested() if self._nest else self._independent()
            for variable, level in zip(self._centroids, levels, strict=True):
                variable.assign(level.centroids)
            # Not when there was nothing to cluster: such centroids are no place to start from.
            self._started.assign(bool(levels[0].counts.any()))
            sample = self.table_clusters.table.sample()
        labels = np.stack([self._accept(level, rate) for level in levels])
        confidence = np.stack([level.confidence for level in levels])
        return Detection(labels, confidence, _cluster_statistics(levels), sample)

    def _accept(self, level: Clustering, rate: float) -> np.ndarray:
        accepted = pseudo_labels.accept(
            level.confidence, level.assignments, rate=rate, scope=self._scope
        )
        return pseudo_labels.assign(level.assignments, accepted)

    def _start(self, level: int) -> tf.Tensor | None:
        return tf.convert_to_tensor(self._centroids[level]) if self._started.numpy() else None

    def _independent(self) -> list[Clustering]:
        return [
            self.table_clusters.cluster(k, self._start(level), salt=level)
            for level, k in enumerate(self._num_clusters)
        ]

    def _nested(self) -> list[Clustering]:
        *coarser, finest = self._num_clusters
        levels = [self.table_clusters.cluster(finest, self._start(-1))]
        for k in reversed(coarser):
            levels.insert(0, self.table_clusters.coarsen(levels[0], k))
        return levels


def _cluster_statistics(levels: Sequence[Clustering]) -> dict[str, Any]:
    counts = [level.counts for level in levels]
    return {
        "embedded": int(counts[0].sum()),
        "clusters": [int(c.size) for c in counts],
        "empty_clusters": int(sum(np.sum(c == 0) for c in counts)),
        "largest_cluster": [int(c.max()) for c in counts],
        "smallest_cluster": [int(c.min()) for c in counts],
        "inertia": [level.inertia for level in levels],
        "reseeded": int(sum(level.reseeded for level in levels)),
    }
