"""Clusters of an embedding table, found where its rows are.

What leaves the devices is one label and one confidence per example and level.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import initialization
from ifnd_tf.clustering.kmeans import initial_centroids, kmeans
from ifnd_tf.clustering.lloyd import RELAXATION, TOLERANCE, Moved, move_centroids
from ifnd_tf.clustering.nearest import default_chunk
from ifnd_tf.detection.embeddings import EmbeddingTable
from ifnd_tf.distribute.collectives import replica_collectives
from ifnd_tf.distribute.strategies import workers
from ifnd_tf.errors import UserError, cause

# Rows at a time below which a smaller chunk saves no memory worth the name.
_LEAST_CHUNK = 64


class Clustering(NamedTuple):
    """One level's clusters of the whole data set.

    Attributes:
        assignments: int32 [N], -1 for an example that was not embedded.
        confidence: float32 [N] in [0, 1].
        centroids: float32 [K, D], for the next warm start.
        counts: int32 [K].
        inertia: sum of squared distances.
        reseeded: how many empty clusters were given a new place.
    """

    assignments: np.ndarray
    confidence: np.ndarray
    centroids: tf.Tensor
    counts: np.ndarray
    inertia: float
    reseeded: int


class TableClusters:
    """k-means over the rows of all replicas.

    Where memory runs out, it goes on with half as many rows at a time, from the iteration that
    failed. Sums of smaller chunks differ in their last bits. Not with several workers: one that
    fails has left the others in a collective that it cannot come back to.

    Args:
        table: the rows.
        confidence_temperature: tau_c > 0.
        iterations: of Lloyd's algorithm in one clustering, at most; see `kmeans.TOLERANCE`.
        seed: chooses the initial centroids.
        report: told of each time that memory ran out.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        confidence_temperature: float = 0.2,
        iterations: int = 20,
        seed: int = 0,
        report: Callable[[str], None] = lambda text: None,
    ):
        self.table, self.temperature = table, confidence_temperature
        self.iterations, self.seed, self._report = iterations, seed, report
        self._clusterings: dict[int, Callable] = {}
        self._moves: dict[int, Callable] = {}
        self._chunks: dict[int, int] = {}  # rows at a time by K, where fewer than by default

    def cluster(self, num_clusters: int, start: tf.Tensor | None, salt: int = 0) -> Clustering:
        """k-means of the rows, from `start` [K, D] or, if None, from k-means of a sample.

        Args:
            num_clusters: K.
            start: the last refresh's centroids, for a warm start.
            salt: folded into the seed, so that levels of equal K differ.

        Raises:
            UserError: if not even few rows at a time fit in memory.
        """
        if start is None:
            choose = self.table.on_replicas(functools.partial(self.start_step, num_clusters))
            # A concrete function, as in `_clustering`: TensorFlow takes functions made at one
            # line for one function, and warns of retracing.
            choose = choose.get_concrete_function(tf.TensorSpec([], tf.int32))
            start = self.table.first(choose(tf.constant(self.seed + salt)))
        # One call per iteration: MirroredStrategy cannot communicate inside a graph's loop, and
        # takes minutes to trace twenty iterations unrolled.
        centroids, reseeded = start, 0
        for _ in range(self.iterations):
            moved = self.table.first(self._within_memory(num_clusters, self._moving, centroids))
            centroids, reseeded = moved.centroids, reseeded + int(moved.reseeded)
            if moved.settled(TOLERANCE):
                break
        found = self._collect(self._within_memory(num_clusters, self._clustering, centroids))
        return found._replace(reseeded=reseeded)

    def coarsen(self, fine: Clustering, num_clusters: int) -> Clustering:
        """Clusters the centroids of `fine`: examples of one fine cluster stay together.

        As HCSC does (Guo et al. 2022). The confidence is that of the coarse centroids, and 0
        where an example's nearest coarse centroid is not its fine cluster's.

        Args:
            fine: a level with more clusters.
            num_clusters: K of the coarse level.
        """
        rows = tf.where(initialization.used(fine.centroids), tf.range(fine.centroids.shape[0]), -1)
        start = initial_centroids(fine.centroids, rows, num_clusters=num_clusters, seed=self.seed)
        parents = kmeans(
            fine.centroids,
            rows,
            start,
            num_iterations=self.iterations,
            confidence_temperature=self.temperature,
            tolerance=TOLERANCE,
            relaxation=RELAXATION,
        )
        nearest = self._collect(
            self._within_memory(num_clusters, self._clustering, parents.centroids)
        )
        own = parents.assignments.numpy()[fine.assignments]
        own = np.where(fine.assignments < 0, -1, own).astype(np.int32)
        return nearest._replace(
            assignments=own,
            confidence=np.where(own == nearest.assignments, nearest.confidence, 0.0),
            counts=np.bincount(own[own >= 0], minlength=num_clusters),
        )

    # --- replica functions: public, because the TPU check compiles them ----------------------

    def start_step(self, num_clusters: int, seed: tf.Tensor) -> tf.Tensor:
        """Initial centroids [K, D], equal on all replicas."""
        return initial_centroids(
            *self.table.read(),
            num_clusters=num_clusters,
            seed=seed,
            collectives=replica_collectives(),
        )

    def move_step(self, centroids: tf.Tensor) -> Moved:
        """One k-means iteration over all replicas."""
        return move_centroids(
            *self.table.read(),
            centroids,
            relaxation=RELAXATION,
            chunk_size=self._chunks.get(centroids.shape[0]),
            collectives=replica_collectives(),
        )

    def cluster_step(self, iterations: int, centroids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """k-means over all replicas; index, assignments and confidence are gathered."""
        collectives = replica_collectives()
        points, index = self.table.read()
        result = kmeans(
            points,
            index,
            centroids,
            num_iterations=iterations,
            confidence_temperature=self.temperature,
            chunk_size=self._chunks.get(centroids.shape[0]),
            collectives=collectives,
        )
        return (
            collectives.concat(index),
            collectives.concat(result.assignments),
            collectives.concat(result.confidence),
            result.centroids,
            result.counts,
            result.inertia,
            result.reseeded,
        )

    # --- host ------------------------------------------------------------------------------------

    def _clustering(self, num_clusters: int) -> Callable:
        """One compiled function per K, since shapes are static."""
        if num_clusters not in self._clusterings:
            step = functools.partial(self.cluster_step, 0)
            self._clusterings[num_clusters] = self.table.on_replicas(step).get_concrete_function(
                tf.TensorSpec([num_clusters, self.table.width])
            )
        return self._clusterings[num_clusters]

    def _moving(self, num_clusters: int) -> Callable:
        """The compiled `move_step` for K clusters."""
        if num_clusters not in self._moves:
            self._moves[num_clusters] = self.table.on_replicas(
                self.move_step
            ).get_concrete_function(tf.TensorSpec([num_clusters, self.table.width]))
        return self._moves[num_clusters]

    def _within_memory(
        self, num_clusters: int, compiled: Callable[[int], Callable], centroids: tf.Tensor
    ) -> Any:
        """What a compiled function gives, with as few rows at a time as memory wants."""
        while True:
            try:
                return compiled(num_clusters)(centroids)
            except tf.errors.ResourceExhaustedError as error:
                rows = min(default_chunk(num_clusters), self.table.rows)
                chunk = self._chunks.get(num_clusters, rows) // 2
                if chunk < _LEAST_CHUNK or workers(self.table.strategy).count > 1:
                    raise UserError(
                        f"--num_clusters: expected clusters that fit in memory. Received: "
                        f"{num_clusters}, with {self.table.num_examples} examples of width "
                        f"{self.table.width} ({cause(error)}); try fewer, or more replicas."
                    ) from error
                self._report(
                    f"clustering: memory ran out at {2 * chunk} rows at a time; going on with "
                    f"{chunk}, which is slower"
                )
                self._chunks[num_clusters] = chunk
                for cache in (self._clusterings, self._moves):
                    cache.pop(num_clusters, None)

    def _collect(self, outputs) -> Clustering:
        index, labels, confidence, centroids, counts, inertia, reseeded = self.table.first(outputs)
        index = index.numpy()
        real = index >= 0
        assignments = np.full(self.table.num_examples, -1, np.int32)
        confidences = np.zeros(self.table.num_examples, np.float32)
        assignments[index[real]] = labels.numpy()[real]
        confidences[index[real]] = confidence.numpy()[real]
        return Clustering(
            assignments, confidences, centroids, counts.numpy(), float(inertia), int(reseeded)
        )
