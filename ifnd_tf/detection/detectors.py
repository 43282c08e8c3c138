"""The detectors of `--detector`: each finds pseudo-labels for all examples.

To add one, subclass `Detector` or `ClusterDetector` and enter it in `DETECTORS`
and in the choices of the setting.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering.kmeans import KMeansResult
from ifnd_tf.detection import pseudo_labels
from ifnd_tf.detection.embeddings import EmbeddingTable, Sample
from ifnd_tf.detection.neighbours import as_levels, mutual_pairs
from ifnd_tf.detection.noisy_labels import noisy_labels
from ifnd_tf.detection.sharded_kmeans import ShardedKMeans
from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Count

# A context manager that shows the name of a phase on the terminal, and yields a `progress.Count`.
Phase = Callable[[str], Any]


class Detection(NamedTuple):
    """The result of one refresh.

    Attributes:
        labels: int32 [L, N], -1 where not accepted.
        confidence: float32 [L, N] in [0, 1].
        statistics: of the clusters, name to number.
        sample: some of the clustered embeddings; None if nothing was clustered.
    """

    labels: np.ndarray
    confidence: np.ndarray
    statistics: dict[str, Any]
    sample: Sample | None = None


class Detector(tf.Module):
    """`--detector=none`: no pseudo-labels, plain MoCo v2 or SimCLR. Base of all detectors.

    `IncrementalDetection`, the callback, asks for labels at every refresh and writes them to
    the model. A detector's variables are part of the checkpoint.

    Attributes:
        num_levels: L; 0: no labels.
        incremental: whether labels come after a warm-up and grow; otherwise they are given
            once, before the first step.
    """

    num_levels: int = 0
    incremental: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(name="detector")

    def can_detect(self, rate: float) -> bool:
        """Whether acceptance rate r may detect a pair; without one no refresh is made."""
        return rate > 0.0

    def detect(self, rate: float, phase: Phase) -> Detection:
        """Finds labels, at acceptance rate r in [0, 1]."""
        raise NotImplementedError


class OracleDetector(Detector):
    """`--detector=oracle`: the true labels, the upper bound of what detection can give.

    Args:
        true_labels: int32 [N], -1 for unknown.

    Raises:
        UserError: if none is known.
    """

    num_levels, incremental = 1, False

    def __init__(self, true_labels: np.ndarray):
        super().__init__()
        if np.all(true_labels < 0):
            raise UserError(
                "--detector=oracle: expected a data set with labels. Received: none; try ifnd."
            )
        self._labels = true_labels.astype(np.int32)[None]

    def detect(self, rate: float, phase: Phase) -> Detection:
        return Detection(self._labels, (self._labels >= 0).astype(np.float32), {})


class NoisyOracleDetector(OracleDetector):
    """`--detector=noisy_oracle`: labels whose pairs have a chosen precision and recall.

    Args:
        true_labels: int32 [N], -1 for unknown.
        precision, recall: of pairs; see `noisy_labels`.
        seed: of the draws.
    """

    def __init__(self, true_labels: np.ndarray, precision: float, recall: float, seed: int = 0):
        super().__init__(true_labels)
        self._labels = noisy_labels(true_labels, precision, recall, seed)[None]


class NeighbourDetector(Detector):
    """`--detector=neighbours`: mutual nearest neighbours of the embeddings, the nearest first.

    Args:
        table: the embeddings.
        num_neighbours: k, and the number of levels L that hold the pairs, whose union is masked.
    """

    def __init__(self, table: EmbeddingTable, num_neighbours: int):
        super().__init__()
        self.table, self.num_levels = table, num_neighbours
        self._pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def can_detect(self, rate: float) -> bool:  # an example has at most k mutual neighbours
        return round(rate * self.table.num_examples * self.num_levels / 2) > 0

    def detect(self, rate: float, phase: Phase) -> Detection:
        with phase("embedding") as count:
            self.table.refresh(count)
        with phase("clustering"):
            if self._pairs is None or not self.table.fixed:
                points, examples = self.table.everything()
                self._pairs = examples, *mutual_pairs(points, self.num_levels)
            examples, pairs, cosines = self._pairs
            kept = pairs[: round(rate * len(pairs))]
            total = self.table.num_examples
            labels = as_levels(examples[kept], self.num_levels, total)
            sample = self.table.sample()
        confidence = np.zeros([self.num_levels, total], np.float32)
        # An example is as confident as its nearest pair.
        np.maximum.at(confidence[0], examples[pairs].ravel(), np.repeat(cosines, 2).clip(0.0, 1.0))
        confidence[:] = confidence[0]
        counts = {"embedded": len(examples), "pairs": len(pairs)}
        return Detection(labels, confidence, counts, sample)


class ClusterDetector(Detector):
    """`--detector=ifnd`: k-means clusters of the embeddings, the most confident members first.

    Source: IFND (Chen et al., ICLR 2022), steps 1 to 4 of the method.

    Args:
        kmeans: clusters the embeddings.
        num_clusters: K of each level, ascending.
        hierarchy: "independent", or "nested": coarser levels cluster the finer centroids.
        scope: "global" or "cluster"; see `pseudo_labels.accept`.
    """

    def __init__(
        self,
        kmeans: ShardedKMeans,
        num_clusters: Sequence[int],
        *,
        hierarchy: str = "independent",
        scope: str = "global",
    ):
        super().__init__()
        self.kmeans, self._num_clusters = kmeans, tuple(num_clusters)
        self.num_levels = len(self._num_clusters)
        self._nest, self._scope = hierarchy == "nested", scope
        # Checkpointed: a resumed run must start its next k-means where this one ended.
        width = kmeans.table.width
        with kmeans.table.strategy.scope():
            self._started = tf.Variable(False, trainable=False, name="started")
            self._centroids = [
                tf.Variable(tf.zeros([k, width]), trainable=False, name=f"centroids_{k}")
                for k in num_clusters
            ]

    def can_detect(self, rate: float) -> bool:  # a single label of a level is equal to no other
        return pseudo_labels.accepted_count(rate, self.kmeans.table.num_examples) > 1

    def detect(self, rate: float, phase: Phase) -> Detection:
        with phase("embedding") as count:
            self.kmeans.table.refresh(count)
        with phase("clustering") as count:
            levels = self._nested(count) if self._nest else self._independent(count)
            for variable, level in zip(self._centroids, levels, strict=True):
                variable.assign(level.centroids)
            self._started.assign(bool(levels[0].counts.any()))  # none embedded: start cold next
            sample = self.kmeans.table.sample()
        labels = [
            pseudo_labels.accept(level.confidence, level.assignments, rate, self._scope)
            for level in levels
        ]
        confidence = np.stack([level.confidence for level in levels])
        return Detection(np.stack(labels), confidence, _cluster_statistics(levels), sample)

    def _start(self, level: int) -> tf.Tensor | None:
        return tf.convert_to_tensor(self._centroids[level]) if self._started.numpy() else None

    def _independent(self, count: Count) -> list[KMeansResult]:
        """Counts iterations; a level that settles early skips some."""
        most = self.kmeans.iterations

        def of_level(level: int) -> Count:
            return lambda done, _: count(level * most + done, self.num_levels * most)

        return [
            self.kmeans.cluster(k, self._start(level), salt=level, count=of_level(level))
            for level, k in enumerate(self._num_clusters)
        ]

    def _nested(self, count: Count) -> list[KMeansResult]:
        *coarser, finest = self._num_clusters
        levels = [self.kmeans.cluster(finest, self._start(-1), count=count)]
        for k in reversed(coarser):
            levels.insert(0, self.kmeans.coarsen(levels[0], k))
        return levels


class PermutedDetector(ClusterDetector):
    """`--detector=random`: the labels of `ifnd`, permuted over the examples; the control.

    As many negatives are masked, in clusters of the same sizes.
    """

    def detect(self, rate: float, phase: Phase) -> Detection:
        found = super().detect(rate, phase)
        order = np.random.default_rng(self.kmeans.seed).permutation(found.labels.shape[1])
        return found._replace(labels=found.labels[:, order], confidence=found.confidence[:, order])


DETECTORS: dict[str, type[Detector]] = {
    "ifnd": ClusterDetector,
    "neighbours": NeighbourDetector,
    "noisy_oracle": NoisyOracleDetector,
    "none": Detector,
    "oracle": OracleDetector,
    "random": PermutedDetector,
}


def _cluster_statistics(levels: Sequence[KMeansResult]) -> dict[str, Any]:
    counts = [level.counts for level in levels]
    return {
        "embedded": int(counts[0].sum()),
        "clusters": [int(c.size) for c in counts],
        "empty_clusters": int(sum(np.sum(c == 0) for c in counts)),
        "largest_cluster": [int(c.max()) for c in counts],
        "smallest_cluster": [int(c.min()) for c in counts],
        "inertia": [float(level.inertia) for level in levels],
        "reseeded": int(sum(level.reseeded for level in levels)),
    }
