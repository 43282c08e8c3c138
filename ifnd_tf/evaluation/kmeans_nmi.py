"""k-means on frozen features, compared with the true classes."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ifnd_tf.clustering.kmeans import initial_centroids, kmeans
from ifnd_tf.distribute import programs
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.run.progress import Count, uncounted

# Iterations of Lloyd's algorithm, at most; and clusterings to choose from.
_ITERATIONS, _RESTARTS = 50, 5


def clustering(
    examples: Embeddings, *, seed: int = 0, count: Count = uncounted
) -> Iterator[tuple[str, float]]:
    """Clusters unit-length features into as many clusters as classes, and compares with these.

    Of several clusterings from different initial centroids the one of least inertia is taken;
    labels play no part in the choice.

    Args:
        examples: N labelled examples.
        seed: of the initial centroids.
        count: called with the clusterings done, and their number.

    Yields:
        ("cluster_nmi", normalised mutual information, in `[0, 1]`), ("cluster_ami", the same
        adjusted for chance, at most 1), ("cluster_purity", share of examples in the majority
        class of their cluster).
    """
    points = tf.math.l2_normalize(tf.constant(examples.features), axis=1)
    cluster = programs.shared(
        _cluster, (tf.TensorSpec(points.shape),), clusters=len(np.unique(examples.labels))
    )
    found = []
    for restart in range(_RESTARTS):
        found.append(cluster(points, tf.constant(seed + restart)))
        count(restart + 1, _RESTARTS)
    _, assignments = min(found, key=lambda result: float(result[0]))
    yield from agreement(examples.labels, assignments.numpy())


def agreement(labels: np.ndarray, assignments: np.ndarray) -> Iterator[tuple[str, float]]:
    """Compares a partition with the true classes; see `clustering` for what it yields."""
    yield "cluster_nmi", float(normalized_mutual_info_score(labels, assignments))
    yield "cluster_ami", float(adjusted_mutual_info_score(labels, assignments))
    table = contingency_matrix(labels, assignments)
    yield "cluster_purity", float(table.max(axis=0).sum() / table.sum())


def _cluster(points: tf.Tensor, seed: tf.Tensor, clusters: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Inertia and assignments of one clustering."""
    index = tf.range(points.shape[0])
    centroids = initial_centroids(points, index, num_clusters=clusters, seed=seed)
    result = kmeans(
        points, index, centroids, num_iterations=_ITERATIONS, confidence_temperature=1.0,
        tolerance=0.0, relaxation=1.0,
    )  # fmt: skip
    return result.inertia, result.assignments
