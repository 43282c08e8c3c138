"""How replicas combine what they hold: the two operations that k-means needs."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


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


LOCAL = Collectives(lambda tensor: tensor, lambda tensor: tensor, loops=True)


def replica_collectives() -> Collectives:
    """The collectives of the replica that calls this, to be used inside `strategy.run`."""
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError("Expected a replica context. Call this inside `strategy.run`.")
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return LOCAL

    own = tf.range(replicas) == context.replica_id_in_sync_group

    def total(tensor: tf.Tensor) -> tf.Tensor:
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)

    def concat(tensor: tf.Tensor) -> tf.Tensor:
        # A sum of otherwise empty slots, as TPUs gather anyway. `all_gather` also allows for
        # unequal shapes: a hundred more ops per call, which MirroredStrategy traces slowly.
        # `where`, not a product with 0, which would keep a NaN.
        slots = tf.where(tf.reshape(own, [replicas] + [1] * tensor.shape.rank), tensor[None], 0)
        return tf.reshape(total(slots), [replicas * tensor.shape[0], *tensor.shape[1:]])

    return Collectives(total, concat, loops=isinstance(context.strategy, tf.distribute.TPUStrategy))
