"""Communication between replicas.

With these, models, k-means and callbacks read the same on a laptop, several GPUs, several
hosts and a TPU pod.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError

# Pieces of a batch in `exchange`: each is a message, and eight replicas mix a batch well.
_MOST_PIECES = 8

# --- inside a replica ---------------------------------------------------------------------


def _context() -> tf.distribute.ReplicaContext | None:
    """The replica context, or None while Keras builds layers in a strategy's scope."""
    if tf.distribute.in_cross_replica_context():
        return None
    return tf.distribute.get_replica_context()


_for_accelerator = contextvars.ContextVar("for_accelerator", default=False)


@contextlib.contextmanager
def traced_for_accelerator() -> Iterator[None]:
    """Within it `on_cpu` is False: functions traced on this machine will run on an accelerator."""
    token = _for_accelerator.set(True)
    try:
        yield
    finally:
        _for_accelerator.reset(token)


def on_cpu() -> bool:
    """Whether the function being traced will run on CPUs."""
    return not compiled_whole() and not tf.config.list_logical_devices("GPU")


def compiled_whole() -> bool:
    """Whether XLA will compile the function being traced as a whole."""
    if _for_accelerator.get():
        return True
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def num_replicas() -> int:
    """Replicas that run the current step; 1 outside `strategy.run`."""
    context = _context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> tf.Tensor:
    """int32 [], this replica's number; 0 outside `strategy.run`."""
    context = _context()
    if context is None:
        return tf.constant(0)
    return tf.convert_to_tensor(context.replica_id_in_sync_group, tf.int32)


def all_reduce_mean(x: tf.Tensor) -> tf.Tensor:
    """The mean of `x` over all replicas, differentiable."""
    context = _context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, x)
    return total / context.num_replicas_in_sync


def all_gather(x: tf.Tensor) -> tf.Tensor:
    """Concatenates `x` [b, ...] of all replicas to [replicas * b, ...], differentiable."""
    context = _context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    # The identity gives the tensor this replica's device. A tensor straight from the input has
    # none, and MultiWorkerMirroredStrategy then finds no destination to gather to.
    gathered = context.all_gather(tf.identity(x), axis=0)
    return tf.ensure_shape(gathered, [num_replicas() * x.shape[0], *x.shape[1:]])


def exchange_pieces(rows: int, replicas: int) -> int:
    """The number of pieces that `exchange` cuts a replica's batch into.

    The largest up to `_MOST_PIECES` that divides both the batch and the replicas.

    Raises:
        UserError: if that is 1: whole batches would move, and every image would still be
            normalised among the same others.
    """
    for pieces in range(_MOST_PIECES, 1, -1):
        if rows % pieces == 0 and replicas % pieces == 0:
            return pieces
    raise UserError(
        f"--batch_norm=shuffle: expected a batch per replica and a number of replicas with a "
        f"common divisor from 2 to {_MOST_PIECES}. Received: {rows} images on each of {replicas} "
        "replicas; choose another --batch_size, or --batch_norm=sync."
    )


def exchange(x: tf.Tensor, *, inverse: bool = False) -> tf.Tensor:
    """Shuffles rows across replicas (MoCo's shuffling batch norm, He et al. 2019, 3.3).

    Each replica cuts its rows [b, ...] into P pieces and sends piece j to the replica
    j * R / P places further on, so that no replica keeps more than b / P of its rows
    together. `inverse=True` sends them back.

    Collective permutes on TPU, where each core sends and receives just its b rows; a gather
    elsewhere, since neither CPU nor GPU has a kernel for the permute.
    """
    replicas = num_replicas()
    pieces = exchange_pieces(x.shape[0], replicas)
    shifts = [(-1 if inverse else 1) * j * (replicas // pieces) for j in range(pieces)]
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        parts = zip(tf.split(x, pieces), shifts, strict=True)
        return tf.concat([_permute(piece, shift, replicas) for piece, shift in parts], axis=0)
    shape = x.shape.as_list()
    gathered = tf.reshape(all_gather(x), [replicas, pieces, shape[0] // pieces, *shape[1:]])
    senders = tf.math.floormod(replica_id() - tf.constant(shifts), replicas)
    moved = tf.gather_nd(gathered, tf.stack([senders, tf.range(pieces)], axis=1))
    return tf.reshape(moved, shape)


def _permute(x: tf.Tensor, shift: int, replicas: int) -> tf.Tensor:
    if shift == 0:
        return x
    pairs = [[sender, (sender + shift) % replicas] for sender in range(replicas)]
    return tf.raw_ops.CollectivePermute(input=x, source_target_pairs=pairs)


# --- for k-means ------------------------------------------------------------------------------


class Collectives(NamedTuple):
    """The two collectives that k-means needs.

    Attributes:
        sum: adds a tensor over all replicas.
        concat: joins the replicas' tensors on axis 0, in the same order everywhere.
        loops: whether `sum` and `concat` may run inside a `tf.while_loop`. False for
            MirroredStrategy, whose replicas meet in Python: there iterations are unrolled.
    """

    sum: Callable[[tf.Tensor], tf.Tensor]
    concat: Callable[[tf.Tensor], tf.Tensor]
    loops: bool = False


# Not lambdas: AutoGraph cannot tell two of them on one line apart, and warns.
LOCAL = Collectives(tf.identity, tf.identity, loops=True)


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

    return Collectives(total, concat, loops=compiled_whole())


# --- from the host ----------------------------------------------------------------------------


def own_variable(value: tf.Tensor, name: str) -> tf.Variable:
    """A variable with a value of its own on each replica; called in a strategy's scope."""
    return tf.Variable(
        value, trainable=False, name=name, synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )  # fmt: skip


def write_rows(variable: tf.Variable, row: tf.Tensor, values: tf.Tensor) -> None:
    """On a replica: writes consecutive rows in place, whatever the size of the variable.

    Args:
        variable: [m, ...] on each replica; see `own_variable`.
        row: int32 [], the first, at most m - b.
        values: [b, ...].
    """
    if compiled_whole():  # XLA turns this into an update in place
        start = (row, *[0] * (values.shape.rank - 1))
        variable.assign(keras.ops.slice_update(variable.read_value(), start, values))
        return
    # A raw op, since variables with a component per replica lack `scatter_update`. Assigning a
    # changed copy would move all m rows for each batch.
    tf.raw_ops.ResourceScatterUpdate(
        resource=variable.handle, indices=row + tf.range(values.shape[0]), updates=values
    )


def assign_rows(
    strategy: tf.distribute.Strategy, variable: tf.Variable, values: np.ndarray, rows: int,
    fill: float = 0,
) -> None:  # fmt: skip
    """Deals the rows of an array out to the replicas' own variables.

    Args:
        strategy: whose replicas hold the variable.
        variable: [m, ...] on each replica, m >= `rows`; see `own_variable`.
        values: [N, ...], of which replica r gets rows r n to (r + 1) n - 1.
        rows: n.
        fill: the value of the rows that are left over.
    """

    def own(context: Any) -> tf.Tensor:
        start = context.replica_id_in_sync_group * rows
        mine = values[start : start + rows]
        padding = [(0, variable.shape[0] - len(mine))] + [(0, 0)] * (values.ndim - 1)
        return tf.constant(np.pad(mine, padding, constant_values=fill), variable.dtype)

    dealt = strategy.experimental_distribute_values_from_function(own)
    on_replicas(strategy, variable.assign)(dealt)


def on_replicas(strategy: tf.distribute.Strategy, function: Callable) -> Any:
    """A compiled function that runs `function` on every replica."""

    # Not a lambda: TPUStrategy names the cluster after the function, and refuses "<lambda>".
    def run(*args):
        return strategy.run(function, args=args)

    return tf.function(run, autograph=False)


def first(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """The first replica's part of what `on_replicas` returned."""
    return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], value)
