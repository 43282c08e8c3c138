"""How replicas combine what they hold: the two operations that k-means needs."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


def _identity(tensor: tf.Tensor) -> tf.Tensor:
    return tensor


class Collectives(NamedTuple):
    """How replicas combine what they hold.

    Attributes:
        sum: adds a tensor over all replicas.
        concat: joins the replicas' tensors on axis 0, in the same order everywhere.
        loops: whether `sum` and `concat` may run inside a `tf.while_loop`. False for
            MirroredStrategy, whose replicas meet in Python: there iterations are unrolled.
    """

    sum: Callable[[tf.Tensor], tf.Tensor]
    concat: Callable[[tf.Tensor], tf.Tensor]
    loops: bool = False


LOCAL = Collectives(_identity, _identity, loops=True)


def replica_collectives() -> Collectives:
    """The collectives of the replica that calls this, to be used inside `strategy.run`."""
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError("Expected a replica context. Call this inside `strategy.run`.")
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return LOCAL

    def concat(tensor: tf.Tensor) -> tf.Tensor:
        # MirroredStrategy's gather forgets the shape, which XLA and top_k need.
        shape = [replicas * tensor.shape[0], *tensor.shape[1:]]
        return tf.ensure_shape(context.all_gather(tensor, axis=0), shape)

    return Collectives(
        sum=lambda tensor: context.all_reduce(tf.distribute.ReduceOp.SUM, tensor),
        concat=concat,
        loops=isinstance(context.strategy, tf.distribute.TPUStrategy),
    )
