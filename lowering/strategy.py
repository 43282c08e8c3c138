"""A strategy that only traces: one replica's program, with XLA's collectives between R of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.distribute import distribute_lib
from tensorflow.python.distribute.one_device_strategy import OneDeviceExtended

from ifnd_tf.distribute import replicas


class LoweredReplicas(tf.distribute.Strategy):
    """Replicas of a lowered program, of which this process has the variables of one.

    Model, optimiser and k-means see R replicas in its replica context, as under
    MirroredStrategy, and sum over them by XLA's all-reduce. So what is traced is the program of
    any replica, whose number is an argument.

    Args:
        count: R >= 2.
    """

    def __init__(self, count: int):
        super().__init__(_Extended(self, count))

    def trace(self, replica: tf.Tensor, function: Callable, args: Any) -> Any:
        """What `function` computes on the replica of this number, int32 []."""
        self.extended.replica = replica
        return self.run(function, args=args)


def make(devices: int) -> tf.distribute.Strategy:
    """The strategy that a program for so many devices is traced under."""
    return LoweredReplicas(devices) if devices > 1 else tf.distribute.get_strategy()


class _Context(distribute_lib.ReplicaContext):
    def all_gather(self, value: tf.Tensor, axis: int, options: Any = None) -> tf.Tensor:
        if axis != 0:
            raise NotImplementedError(f"axis: expected 0. Received: {axis}.")
        # Of XLA's collectives TensorFlow can lower the all-reduce alone, outside of a TPU.
        return replicas.replica_collectives().concat(value)


class _Extended(OneDeviceExtended):
    """One device's variables and updates; sums over all replicas."""

    replica: tf.Tensor

    def __init__(self, strategy: LoweredReplicas, count: int):
        super().__init__(strategy, "/cpu:0")
        self._count = count

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._count

    @property
    def worker_devices(self) -> tuple[str, ...]:
        return (self._device,) * self._count

    def _call_for_each_replica(self, fn: Callable, args: Any, kwargs: Any) -> Any:
        # Without a device scope, which would be part of the program.
        with _Context(self._container_strategy(), self.replica):
            return fn(*args, **kwargs)

    def _reduce_to(self, reduce_op: Any, value: Any, destinations: Any, options: Any) -> Any:
        groups = np.arange(self._count, dtype=np.int32)[None]
        total = gen_xla_ops.xla_all_reduce(value, groups, "Add", "CrossReplicaAndPartition")
        return total / self._count if reduce_op == tf.distribute.ReduceOp.MEAN else total
