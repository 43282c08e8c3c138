"""k-means over an embedding table, computed where its rows are.

Only one label and one confidence per example and level leave the devices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import initialization
from ifnd_tf.clustering.kmeans import KMeansResult, initial_centroids, kmeans
from ifnd_tf.clustering.lloyd import TOLERANCE, Moved, move_centroids
from ifnd_tf.clustering.nearest import default_chunk
from ifnd_tf.detection.embeddings import EmbeddingTable
from ifnd_tf.distribute import programs, replicas
from ifnd_tf.distribute.strategies import workers
from ifnd_tf.errors import UserError, cause
from ifnd_tf.run.progress import Count, uncounted

# Rows at a time below which a smaller chunk saves hardly any memory.
LEAST_CHUNK = 64


class ShardedKMeans:
    """k-means over the rows of all replicas.

    When memory runs out, the failed iteration is repeated with half as many rows at a time. Sums
    of smaller chunks differ in their last bits. A worker that fails in a collective would deadlock
    the others, so each of several workers tries its own part first, and all agree.

    Args:
        table: the rows.
        confidence_temperature: tau_c > 0.
        iterations: of Lloyd's algorithm in one clustering, at most.
        seed: of the initial centroids.
        report: called with a line each time that memory runs out.
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
        self._compiled: dict[tuple[str, int], Callable] = {}
        self._chunks: dict[int, int] = {}  # rows at a time by K, where fewer than by default

    def cluster(
        self,
        num_clusters: int,
        start: tf.Tensor | None,
        salt: int = 0,
        count: Count = uncounted,
    ) -> KMeansResult:
        """k-means of the rows, from `start` [K, D] or, if None, from k-means of a sample.

        Args:
            num_clusters: K.
            start: the last refresh's centroids, for a warm start; if the table's embeddings are
                fixed, they are kept.
            salt: folded into the seed, so that levels of equal K differ.
            count: called with the iterations done, and their greatest number.

        Raises:
            UserError: if not even `LEAST_CHUNK` rows at a time fit in memory.
        """
        kept = self.table.fixed and start is not None
        if start is None:
            start = self._start(num_clusters, self.seed + salt)
        # One call per iteration: MirroredStrategy cannot communicate inside a graph's loop, and
        # takes minutes to trace twenty iterations unrolled.
        centroids, reseeded = start, 0
        for done in range(1, 1 + (0 if kept else self.iterations)):
            moved = self._within_memory(move_step, centroids)
            centroids, reseeded = moved.centroids, reseeded + int(moved.reseeded)
            count(done, self.iterations)
            if moved.settled(TOLERANCE):
                break
        return self._collect(centroids)._replace(reseeded=reseeded)

    def coarsen(self, fine: KMeansResult, num_clusters: int) -> KMeansResult:
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
        )
        nearest = self._collect(parents.centroids)
        own = parents.assignments.numpy()[fine.assignments]
        own = np.where(fine.assignments < 0, -1, own).astype(np.int32)
        return nearest._replace(
            assignments=own,
            confidence=np.where(own == nearest.assignments, nearest.confidence, 0.0),
            counts=np.bincount(own[own >= 0], minlength=num_clusters),
        )

    def _start(self, num_clusters: int, seed: int) -> tf.Tensor:
        """Initial centroids [K, D]."""
        start = self._program(start_step, tf.TensorSpec([], tf.int32), num_clusters=num_clusters)
        return replicas.first(self.table.strategy, start(tf.constant(seed)))

    def _within_memory(self, step: Callable, centroids: tf.Tensor, **static: float) -> Any:
        """The first replica's result of a step, with as many rows at a time as memory holds."""
        num_clusters, strategy = centroids.shape[0], self.table.strategy
        key = step.__name__, num_clusters  # shapes are static, so one compiled function per K
        while True:
            static["chunk_size"] = self._chunks.get(num_clusters, 0)
            try:
                if key not in self._compiled:
                    self._try_alone(step, centroids, **static)
                    self._compiled[key] = self._program(
                        step, tf.TensorSpec(centroids.shape), **static
                    )
                return replicas.first(strategy, self._compiled[key](centroids))
            except tf.errors.ResourceExhaustedError as error:
                if key in self._compiled and workers(strategy).count > 1:
                    raise self._too_large(num_clusters, error) from error
                self._halve_chunk(num_clusters, error)
                for name, k in list(self._compiled):
                    if k == num_clusters:
                        del self._compiled[name, k]

    def _program(self, step: Callable, argument: tf.TensorSpec, **static: Any) -> Callable:
        table = self.table
        return programs.compiled(table.strategy, step, table.variables, argument, **static)

    def _try_alone(self, step: Callable, centroids: tf.Tensor, **static: float) -> None:
        """With several workers: runs the step on this worker's rows, without collectives.

        Raises:
            tf.errors.ResourceExhaustedError: on all workers, if memory runs out on any.
        """
        known = workers(self.table.strategy)
        if known.count == 1:
            return
        failed = None
        try:
            shape = tf.TensorSpec(centroids.shape)
            self._program(step, shape, collectives=replicas.LOCAL, **static)(centroids)
        except tf.errors.ResourceExhaustedError as error:
            failed = error
        if known.any([failed is not None])[0]:
            raise failed or tf.errors.ResourceExhaustedError(None, None, "on another worker")

    def _halve_chunk(self, num_clusters: int, error: tf.errors.ResourceExhaustedError) -> None:
        rows = min(default_chunk(num_clusters), self.table.rows)
        chunk = self._chunks.get(num_clusters, rows) // 2
        if chunk < LEAST_CHUNK:
            raise self._too_large(num_clusters, error) from error
        self._report(
            f"clustering: memory ran out at {2 * chunk} rows at a time; continuing with {chunk}, "
            "which is slower"
        )
        self._chunks[num_clusters] = chunk

    def _too_large(self, num_clusters: int, error: tf.errors.ResourceExhaustedError) -> UserError:
        return UserError(
            f"--num_clusters: expected clusters that fit in memory. Received: {num_clusters}, "
            f"with {self.table.num_examples} examples of width {self.table.width} "
            f"({cause(error)}); try fewer, or more replicas."
        )

    def _collect(self, centroids: tf.Tensor) -> KMeansResult:
        """Assigns all rows to these centroids: a result of NumPy arrays, ordered by example."""
        result = self._within_memory(cluster_step, centroids, temperature=self.temperature)
        index, clusters = tf.nest.map_structure(lambda value: value.numpy(), result)
        embedded = index >= 0
        assignments = np.full(self.table.num_examples, -1, np.int32)
        confidence = np.zeros(self.table.num_examples, np.float32)
        assignments[index[embedded]] = clusters.assignments[embedded]
        confidence[index[embedded]] = clusters.confidence[embedded]
        return clusters._replace(assignments=assignments, confidence=confidence)


# --- on a replica; public, because the TPU check compiles them ---------------------------------
#
# Functions of the table's variables, so that later runs of a process reuse the compiled ones.


def start_step(
    points: tf.Variable, index: tf.Variable, seed: tf.Tensor, *, num_clusters: int
) -> tf.Tensor:
    """Initial centroids [K, D] of the rows of all replicas."""
    return initial_centroids(
        tf.convert_to_tensor(points), tf.convert_to_tensor(index), num_clusters=num_clusters,
        seed=seed, collectives=replicas.replica_collectives(),
    )  # fmt: skip


def move_step(
    points: tf.Variable, index: tf.Variable, centroids: tf.Tensor, *, chunk_size: int = 0,
    collectives: replicas.Collectives | None = None,
) -> Moved:  # fmt: skip
    """One k-means iteration over all replicas, `chunk_size` rows at a time; 0: the default."""
    return move_centroids(
        tf.convert_to_tensor(points),
        tf.convert_to_tensor(index),
        centroids,
        chunk_size=chunk_size or None,
        collectives=collectives or replicas.replica_collectives(),
    )


def cluster_step(
    points: tf.Variable,
    index: tf.Variable,
    centroids: tf.Tensor,
    *,
    temperature: float,
    chunk_size: int = 0,
    collectives: replicas.Collectives | None = None,
) -> tuple[tf.Tensor, KMeansResult]:
    """Assigns the rows of all replicas to these centroids: the rows' indices, and the result."""
    collectives = collectives or replicas.replica_collectives()
    index = tf.convert_to_tensor(index)
    result = kmeans(
        tf.convert_to_tensor(points),
        index,
        centroids,
        num_iterations=0,
        confidence_temperature=temperature,
        chunk_size=chunk_size or None,
        collectives=collectives,
    )
    return collectives.concat(index), result._replace(
        assignments=collectives.concat(result.assignments),
        confidence=collectives.concat(result.confidence),
    )
