"""The examples of each element of the training batches, and the random draws for their views."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.host_memory import host_constant
from ifnd_tf.data.permutation import permuted
from ifnd_tf.data.sharding import Sharding
from ifnd_tf.data.view_draws import view_draws

Example = dict[str, tf.Tensor]


class BatchPlan(NamedTuple):
    """The contents of a worker's elements; these are numbered from the run's start.

    Attributes:
        seed: fixes order and views.
        steps: of an epoch.
        batch_size: B, over all replicas.
        sharding: the worker's place.
        weak_keys: see `view_draws`.
    """

    seed: int
    steps: int
    batch_size: int
    sharding: Sharding
    weak_keys: bool

    @property
    def replica_batch(self) -> int:
        """Examples of an element."""
        return self.batch_size // self.sharding.replicas

    def epoch(self, element: tf.Tensor) -> tf.Tensor:
        """The element's epoch, counted from 0."""
        return element // self.sharding.local // self.steps

    def places(self, element: tf.Tensor) -> tf.Tensor:
        """int64 [b]: the element's places in its epoch's order."""
        step = element // self.sharding.local
        part = self.sharding.first + element % self.sharding.local
        start = step % self.steps * self.batch_size + part * self.replica_batch
        return start + tf.range(self.replica_batch, dtype=tf.int64)

    def indices(self, element: tf.Tensor, readable: np.ndarray | tf.Tensor) -> tf.Tensor:
        """int32 [b]: the element's examples, in the order of its epoch's permutation."""
        epoch = tf.cast(self.epoch(element), tf.int32)
        seed = tf.stack([self.seed & 0x7FFFFFFF, epoch])
        return tf.gather(readable, permuted(self.places(element), int(readable.shape[0]), seed))

    def with_draws(self, element: tf.Tensor, batch: Example) -> Example:
        """Adds both views' draws to a batch `{"index": int32 [b], ...}`."""
        geometric, draws = view_draws(
            self.seed, self.epoch(element), batch["index"], weak_keys=self.weak_keys
        )
        return batch | {"geometric": geometric, "draws": draws}

    def indexed(self, readable: np.ndarray, elements: tf.data.Dataset) -> tf.data.Dataset:
        """Batches `{"index", "geometric", "draws"}` of elements, int64 [] each."""
        among = host_constant(readable)  # as a NumPy array it would be copied with the graph

        def identify(element: tf.Tensor) -> Example:
            return self.with_draws(element, {"index": self.indices(element, among)})

        return elements.map(identify, num_parallel_calls=tf.data.AUTOTUNE)
