"""The data set's embeddings on the devices: each replica holds, and clusters, its own rows.

Neither the host nor any one device ever sees all N x D numbers; what leaves the devices is
one label and one confidence per example and level.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf import seeding
from ifnd_tf.collectives import replica_collectives
from ifnd_tf.errors import UserError
from ifnd_tf.key_memory import KeyMemory
from ifnd_tf.kmeans import count_non_finite, kmeans, move_centroids


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


class EmbeddingTable:
    """Unit embeddings of all N examples, sharded over the replicas.

    Args:
        strategy: whose replicas hold the rows.
        embed: uint8 images [b, S, S, 3] -> unit vectors float32 [b, D], run on each replica.
        memory: the keys that `load` takes; None: the rows come from `fill`.
        num_examples: N, the size of the index space.
        rows: how many a replica holds; for `fill` its batches' rows of one pass, for `load` the
            memory's.
        batch_size: rows of a batch of `fill`.
        width: D.
        confidence_temperature: tau_c > 0.
        iterations: Lloyd iterations of one clustering.
        seed: chooses the initial centroids.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        embed: Callable[[tf.Tensor], tf.Tensor],
        *,
        memory: KeyMemory | None = None,
        num_examples: int,
        rows: int,
        batch_size: int,
        width: int,
        confidence_temperature: float = 0.2,
        iterations: int = 20,
        seed: int = 0,
    ):
        self.strategy, self.embed, self._memory = strategy, embed, memory
        self.num_examples, self.batch_size, self.width = num_examples, batch_size, width
        self.temperature, self.iterations, self.seed = confidence_temperature, iterations, seed
        # ON_READ gives each replica a component of its own; it is never read across them.
        own = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        with strategy.scope():
            self._points = tf.Variable(tf.zeros([rows, width]), name="embeddings", **own)
            self._index = tf.Variable(tf.fill([rows], -1), name="embedded_index", **own)
        self._clusterings: dict[int, Callable] = {}
        self._moves: dict[int, Callable] = {}
        self._fill = self._compiled(self.embed_step)
        self._load = self._compiled(self.load_step)
        self._count_bad = self._compiled(self._count_bad_step)

    def fill(self, batches: Iterable[dict]) -> None:
        """Embeds one pass of `pipelines.ordered_batches`, distributed over the strategy.

        Raises:
            UserError: if an embedding is not finite: the training has diverged.
        """
        for step, batch in enumerate(batches):
            self._fill(batch["images"], batch["index"], tf.constant(step))
        self._check()

    def load(self) -> None:
        """Takes the keys kept while training, without any forward pass.

        Raises:
            UserError: if a key is not finite: the training has diverged.
        """
        self._load()
        self._check()

    def _check(self) -> None:
        bad = int(self._first(self._count_bad()))
        if bad:
            raise UserError(
                f"Expected finite embeddings. Received: {bad} of {self.num_examples} examples with "
                "NaN or infinity, so training has diverged; lower --learning_rate, or warm it up."
            )

    def cluster(self, num_clusters: int, start: tf.Tensor | None, salt: int = 0) -> Clustering:
        """k-means of the rows, from `start` [K, D] or, if None, from k-means++.

        Args:
            num_clusters: K.
            start: the last refresh's centroids, for a warm start.
            salt: folded into the seed, so that levels of equal K differ.
        """
        if start is None:
            choose = self._compiled(functools.partial(self.start_step, num_clusters))
            # A concrete function, as in `_clustering`: TensorFlow takes functions made at one
            # line for one function, and warns of retracing.
            choose = choose.get_concrete_function(tf.TensorSpec([], tf.int32))
            start = self._first(choose(tf.constant(self.seed + salt)))
        # One call per iteration: MirroredStrategy cannot communicate inside a graph's loop, and
        # takes minutes to trace twenty iterations unrolled.
        move, centroids, reseeded = self._moving(num_clusters), start, 0
        for _ in range(self.iterations):
            centroids, more = self._first(move(centroids))
            reseeded += more
        found = self._collect(self._clustering(num_clusters)(centroids))
        return found._replace(reseeded=int(reseeded))

    def coarsen(self, fine: Clustering, num_clusters: int) -> Clustering:
        """Clusters the centroids of `fine`: examples of one fine cluster stay together.

        As HCSC does (Guo et al. 2022). The confidence is that of the coarse centroids, and 0
        where an example's nearest coarse centroid is not its fine cluster's.

        Args:
            fine: a level with more clusters.
            num_clusters: K of the coarse level.
        """
        rows = tf.where(seeding.used(fine.centroids), tf.range(fine.centroids.shape[0]), -1)
        start = seeding.initial_centroids(
            fine.centroids, rows, num_clusters=num_clusters, seed=self.seed
        )
        parents = kmeans(
            fine.centroids,
            rows,
            start,
            num_iterations=self.iterations,
            confidence_temperature=self.temperature,
        )
        nearest = self._collect(self._clustering(num_clusters)(parents.centroids))
        own = parents.assignments.numpy()[fine.assignments]
        own = np.where(fine.assignments < 0, -1, own).astype(np.int32)
        return nearest._replace(
            assignments=own,
            confidence=np.where(own == nearest.assignments, nearest.confidence, 0.0),
            counts=np.bincount(own[own >= 0], minlength=num_clusters),
        )

    # --- replica functions: public, because the TPU check compiles them ----------------------

    def embed_step(self, images: tf.Tensor, index: tf.Tensor, step: tf.Tensor) -> None:
        """Embeds one batch into this replica's rows."""
        row = step * self.batch_size
        points = keras.ops.slice_update(self._points.read_value(), (row, 0), self.embed(images))
        self._points.assign(points)
        self._index.assign(keras.ops.slice_update(self._index.read_value(), (row,), index))

    def load_step(self) -> None:
        """Takes this replica's rows from the memory."""
        assert self._memory is not None
        # Copied, though it doubles the memory: k-means reads the rows in each iteration, and
        # would normalise them each time.
        points, index = self._memory.read()
        self._points.assign(points)
        self._index.assign(index)

    def start_step(self, num_clusters: int, seed: tf.Tensor) -> tf.Tensor:
        """Initial centroids [K, D], equal on all replicas."""
        return seeding.initial_centroids(
            self._points.read_value(),
            self._index.read_value(),
            num_clusters=num_clusters,
            seed=seed,
            collectives=replica_collectives(),
        )

    def move_step(self, centroids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One k-means iteration over all replicas: centroids, and how many were re-seeded."""
        return move_centroids(
            self._points.read_value(),
            self._index.read_value(),
            centroids,
            collectives=replica_collectives(),
        )

    def cluster_step(self, iterations: int, centroids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """k-means over all replicas; index, assignments and confidence are gathered."""
        collectives = replica_collectives()
        index = self._index.read_value()
        result = kmeans(
            self._points.read_value(),
            index,
            centroids,
            num_iterations=iterations,
            confidence_temperature=self.temperature,
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

    def _count_bad_step(self) -> tf.Tensor:
        return count_non_finite(
            self._points.read_value(), self._index.read_value(), replica_collectives()
        )

    # --- host ------------------------------------------------------------------------------------

    def _compiled(self, function: Callable) -> Any:
        # Not a lambda: TPUStrategy names the cluster after the function, and refuses "<lambda>".
        def on_replicas(*args):
            return self.strategy.run(function, args=args)

        return tf.function(on_replicas)

    def _clustering(self, num_clusters: int) -> Callable:
        """One compiled function per K, since shapes are static."""
        if num_clusters not in self._clusterings:
            step = functools.partial(self.cluster_step, 0)
            self._clusterings[num_clusters] = self._compiled(step).get_concrete_function(
                tf.TensorSpec([num_clusters, self.width])
            )
        return self._clusterings[num_clusters]

    def _moving(self, num_clusters: int) -> Callable:
        """The compiled `move_step` for K clusters."""
        if num_clusters not in self._moves:
            self._moves[num_clusters] = self._compiled(self.move_step).get_concrete_function(
                tf.TensorSpec([num_clusters, self.width])
            )
        return self._moves[num_clusters]

    def _first(self, value):
        return tf.nest.map_structure(
            lambda v: self.strategy.experimental_local_results(v)[0], value
        )

    def _collect(self, outputs) -> Clustering:
        index, labels, confidence, centroids, counts, inertia, reseeded = self._first(outputs)
        index = index.numpy()
        real = index >= 0
        assignments = np.full(self.num_examples, -1, np.int32)
        confidences = np.zeros(self.num_examples, np.float32)
        assignments[index[real]] = labels.numpy()[real]
        confidences[index[real]] = confidence.numpy()[real]
        return Clustering(
            assignments, confidences, centroids, counts.numpy(), float(inertia), int(reseeded)
        )
