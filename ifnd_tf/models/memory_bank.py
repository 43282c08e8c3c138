"""A memory bank of the keys that training computes: embeddings without a forward pass."""

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.distribute import replicas

# Rows of each replica gathered in one call when the memory is saved. Gathered at once, all
# N x D numbers would have to fit on every device.
SAVED_ROWS = 1 << 14


class MemoryBank(tf.train.experimental.PythonState):
    """An exponential average of each example's keys, its rows dealt out to the replicas.

    A memory bank (Wu et al. 2018, arXiv 1805.01978), here for clustering as in DeepCluster-v2
    (Caron et al. 2020, arXiv 2006.09882). An example's first key is taken as it is, a later one
    k by e = m e + (1 - m) k, once an epoch. Averages are brought to unit length when read, not
    when written, so that the weights of the keys stay those of an exponential average.

    Replica r holds examples r n to (r + 1) n - 1, with n = N / R rounded up. Sharded, since a
    copy on each of R replicas takes R times the memory (ImageNet with D = 128: 656 MB a core
    where 32 cores could hold 20 MB each; with features of width 2048, 10 GB) and saves nothing:
    each replica sees the keys of all replicas anyway, because they enter the queue, and in k-means
    each replica works through rows of its own.

    The checkpoint holds one [N, D] array in the order of the examples, so a run continues on any
    number of replicas.

    Args:
        strategy: whose replicas hold the rows.
        num_examples: N, the size of the index space.
        width: D.
        momentum: m in [0, 1).
        features: whether it averages the encoder's features in place of the keys.

    Attributes:
        strategy, num_examples, width: as given.
        rows: n, rows of a replica.
        kept: float32 [n + 1, D] of this replica, not normalised; 0 where none was seen.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        *,
        num_examples: int,
        width: int,
        momentum: float,
        features: bool = False,
    ):
        self.strategy, self._momentum, self.features = strategy, momentum, features
        self.num_examples, self.width = num_examples, width
        self.rows = math.ceil(num_examples / strategy.num_replicas_in_sync)
        with strategy.scope():
            # A row of zeros has no key yet. The last one takes the keys that belong to other
            # replicas: a scatter out of range is dropped by XLA, yet an error on a CPU.
            self.kept = replicas.own_variable(tf.zeros([self.rows + 1, width]), "kept_keys")

    # --- on a replica ----------------------------------------------------------------------------

    def update(self, keys: tf.Tensor, index: tf.Tensor) -> None:
        """Averages new keys into this replica's rows; in place, and XLA-compilable.

        Args:
            keys: float [B, D], those of all replicas, of any length but 0.
            index: int32 [B], their examples.
        """
        place = index - replicas.replica_id() * self.rows
        place = tf.where((place >= 0) & (place < self.rows), place, self.rows)
        keys = tf.math.l2_normalize(tf.cast(tf.stop_gradient(keys), tf.float32), axis=-1)
        before = self._gather(place)
        seen = tf.reduce_any(before != 0.0, axis=-1, keepdims=True)
        after = tf.where(seen, self._momentum * before + (1.0 - self._momentum) * keys, keys)
        # A raw op, since variables with a component per replica lack the method, and assigning a
        # changed copy would move all n x D numbers each step.
        tf.raw_ops.ResourceScatterUpdate(resource=self.kept.handle, indices=place, updates=after)

    def read(self) -> tuple[tf.Tensor, tf.Tensor]:
        """This replica's unit vectors float32 [n, D], and their examples int32 [n].

        The index is -1, which k-means leaves out, for an example whose key was never seen, and
        beyond the last example.
        """
        kept = self.kept.read_value()[: self.rows]
        index = replicas.replica_id() * self.rows + tf.range(self.rows)
        seen = tf.reduce_any(kept != 0.0, axis=-1)
        return tf.math.l2_normalize(kept, axis=-1), tf.where(seen, index, -1)

    def _gather(self, place: tf.Tensor) -> tf.Tensor:
        rows = tf.raw_ops.ResourceGather(resource=self.kept.handle, indices=place, dtype=tf.float32)
        return tf.ensure_shape(rows, [*place.shape, self.width])

    # --- the checkpoint --------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """All averages, float32 [N, D], not normalised; zeros where no key was seen."""
        by_replica = [self.strategy.num_replicas_in_sync, -1, self.width]
        parts = []
        for start in range(0, self.rows, SAVED_ROWS):
            part = replicas.first(self.strategy, self._part(tf.constant(start)))
            parts.append(part.numpy().reshape(by_replica))
        everything = np.concatenate(parts, axis=1)[:, : self.rows]
        return everything.reshape([-1, self.width])[: self.num_examples]

    @functools.cached_property
    def _part(self) -> Any:
        """int32 [] first row -> rows from there on of all replicas, [R * `SAVED_ROWS`, D]."""

        def part(start):
            place = tf.minimum(start + tf.range(SAVED_ROWS), self.rows)
            return replicas.replica_collectives().concat(self._gather(place))

        # A concrete function: TensorFlow takes functions made at one line for the same one, and
        # would warn that a second memory bank retraces it.
        on_replicas = replicas.on_replicas(self.strategy, part)
        return on_replicas.get_concrete_function(tf.TensorSpec([], tf.int32))

    def serialize(self) -> bytes:
        return self.numpy().tobytes()

    def deserialize(self, string_value: bytes) -> None:
        kept = np.frombuffer(string_value, np.float32).reshape([self.num_examples, self.width])
        replicas.assign_rows(self.strategy, self.kept, kept, self.rows)
