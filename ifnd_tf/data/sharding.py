"""Which part of a step's batch a worker's element is.

One element is one replica's batch. `strategy.distribute_datasets_from_function` hands
consecutive elements to a worker's consecutive replicas, so with R_w replicas on worker w,
element e of that worker is part `w R_w + e % R_w` of step `e // R_w`.
"""

from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.data.host_memory import unrewritten

# Steps whose input is made or waits at a time: more would only take memory, as batches are large.
_STEPS_AHEAD = 4


class Sharding(NamedTuple):
    """The place of this worker's replicas among all.

    Attributes:
        worker: number of this worker.
        workers: how many there are.
        local: replicas of each.
    """

    worker: int
    workers: int
    local: int

    @classmethod
    def of(cls, context: tf.distribute.InputContext | None) -> "Sharding":
        """The place that `distribute_datasets_from_function` gives; None: one replica alone."""
        context = context or tf.distribute.InputContext()
        workers = context.num_input_pipelines
        return cls(context.input_pipeline_id, workers, context.num_replicas_in_sync // workers)

    @property
    def replicas(self) -> int:
        """Replicas of all workers together."""
        return self.workers * self.local

    @property
    def first(self) -> int:
        """Number of this worker's first replica."""
        return self.worker * self.local

    @property
    def ahead(self) -> int:
        """Elements to make at the same time, and to hold ready."""
        return _STEPS_AHEAD * self.local


def in_order(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches in a fixed order, never resharded by tf.distribute."""
    options = tf.data.Options()
    options.deterministic = True
    # The tuner's thread sleeps for intervals that grow to a minute. An iterator that ends waits for
    # it, and TensorFlow 2.21 can lose the wake-up, so a training ended up to a minute late.
    # Without it AUTOTUNE means one call a core, which suits images but not whole batches, and
    # reading ahead would grow with every detection's pause: hence `Sharding.ahead`.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return unrewritten(batches).with_options(options)


def read_ahead(batches: tf.data.Dataset, sharding: Sharding) -> tf.data.Dataset:
    """`in_order`, with `Sharding.ahead` batches held ready."""
    return in_order(batches.prefetch(sharding.ahead))
