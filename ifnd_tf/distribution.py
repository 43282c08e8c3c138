"""Strategies by name, communication between replicas, and a `fit` that works under all.

Everything the project needs of `tf.distribute` is here, so that models, k-means and
callbacks read the same on a laptop, several GPUs, several hosts and a TPU pod.
"""

import json
import os
import socket
import time
import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError

# --- inside a replica ---------------------------------------------------------------------


def _context() -> tf.distribute.ReplicaContext | None:
    """The replica context, or None while Keras builds layers in a strategy's scope."""
    if tf.distribute.in_cross_replica_context():
        return None
    return tf.distribute.get_replica_context()


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


def all_reduce_sum(x: tf.Tensor) -> tf.Tensor:
    """The sum of `x` over all replicas, differentiable."""
    context = _context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def all_reduce_mean(x: tf.Tensor) -> tf.Tensor:
    """The mean of `x` over all replicas, differentiable."""
    return all_reduce_sum(x) / num_replicas() if num_replicas() > 1 else x


def all_gather(x: tf.Tensor) -> tf.Tensor:
    """Concatenates `x` [b, ...] of all replicas to [replicas * b, ...], differentiable."""
    context = _context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    # The identity gives the tensor this replica's device. What comes straight from the input
    # has none, and MultiWorkerMirroredStrategy then finds no destination to gather to.
    gathered = context.all_gather(tf.identity(x), axis=0)
    return tf.ensure_shape(gathered, [num_replicas() * x.shape[0], *x.shape[1:]])


def exchange_pieces(rows: int, replicas: int, most: int = 8) -> int:
    """Into how many pieces a replica's batch is cut for `exchange`.

    The largest number up to `most` that divides both the batch and the replicas.

    Raises:
        UserError: if that is 1: whole batches would move, and every image would still be
            normalised among the same others.
    """
    for pieces in range(most, 1, -1):
        if rows % pieces == 0 and replicas % pieces == 0:
            return pieces
    raise UserError(
        f"--batch_norm=shuffle: expected a batch per replica and a number of replicas with a "
        f"common divisor from 2 to {most}. Received: {rows} images on each of {replicas} "
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
        moved = [
            _permute(piece, shift, replicas)
            for piece, shift in zip(tf.split(x, pieces), shifts, strict=True)
        ]
        return tf.concat(moved, axis=0)
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


# --- the model's host loop ------------------------------------------------------------------


class DistributedModel(keras.Model):
    """A `keras.Model` whose `fit` runs under every strategy.

    Keras 3.15's own train function fails on MultiWorkerMirroredStrategy and, with several
    steps per execution, on MirroredStrategy; and its symbolic build runs `train_step`
    outside any replica. Models here are built by hand, so neither is needed.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        return

    train_function: Any

    def make_train_function(self, force: bool = False):
        if self.train_function is not None and not force:
            return self.train_function
        steps = int(self.steps_per_execution)

        def one_step(data):
            return self.distribute_strategy.run(self.train_step, args=(data,))

        @tf.function(reduce_retracing=True)
        def train_function(iterator):
            if steps > 1:  # a loop of no turns would still trace the step a second time
                for _ in tf.range(steps - 1):
                    one_step(next(iterator))
            return tf.nest.map_structure(self._merge, one_step(next(iterator)))

        self.train_function = train_function
        return train_function

    def _merge(self, value):
        strategy = self.distribute_strategy
        if isinstance(strategy, tf.distribute.TPUStrategy):
            # The step reduces its own metrics; a host-side reduction would add a transfer.
            return strategy.experimental_local_results(value)[0]
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)


# --- strategies by name ---------------------------------------------------------------------


def make_strategy(
    name: str, *, tpu: str = "", worker_timeout_seconds: int = 300
) -> tf.distribute.Strategy:
    """The strategy of the given name, connected and ready.

    Args:
        name: "auto", "none", "mirrored", "multiworker" or "tpu".
        tpu: name or address of the TPU; "local" on a Cloud TPU VM.
        worker_timeout_seconds: how long to wait for the workers that TF_CONFIG lists.

    Raises:
        UserError: if the machine lacks what the strategy needs.
    """
    if name == "auto" and (tpu or os.environ.get("TF_CONFIG")):
        name = "tpu" if tpu else "multiworker"
    if name == "tpu":
        return _tpu_strategy(tpu)
    if name == "multiworker":
        wait_for_workers(worker_timeout_seconds)
        return tf.distribute.MultiWorkerMirroredStrategy()
    # Only now: asking for devices starts the runtime, too early for the strategies above.
    devices = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(devices) > 1):
        names = [d.name for d in devices or tf.config.list_logical_devices("CPU")]
        if len(names) < 2:
            raise UserError(
                "--strategy=mirrored: expected at least two GPUs. "
                f"Received: {len(devices)}; use --strategy=none."
            )
        return tf.distribute.MirroredStrategy(names)
    return tf.distribute.get_strategy()


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    if not tpu:
        raise UserError(
            "--strategy=tpu: expected --tpu=NAME, a grpc:// address, or local on a Cloud TPU VM."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # the resolver raises whatever its transport does
        reason = str(error).strip().splitlines()[:1]
        raise UserError(
            f"--tpu: expected the name of a running TPU, or local on a Cloud TPU VM with "
            f"requirements-tpu.txt installed. Received: {tpu!r} ({' '.join(reason)[:200]})."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def wait_for_workers(timeout_seconds: float) -> None:
    """Waits until every other worker of TF_CONFIG listens at its address.

    TensorFlow's own start-up waits for ever without a word. This process listens at its own
    address meanwhile, since the others look for it in the same way.

    Raises:
        UserError: if TF_CONFIG is unusable or a worker cannot be found in time.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG", ""))
        workers, index = config["cluster"]["worker"], int(config["task"]["index"])
        workers[index]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            '--strategy=multiworker: expected TF_CONFIG = {"cluster": {"worker": ["host:port", '
            '...]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: {os.environ.get('TF_CONFIG')!r}."
        ) from error
    deadline = time.monotonic() + timeout_seconds
    with socket.create_server(("", _port(workers[index])), reuse_port=True):
        waiting = [address for i, address in enumerate(workers) if i != index]
        while waiting:
            waiting = [address for address in waiting if not _listens(address)]
            if waiting and time.monotonic() > deadline:
                raise UserError(
                    f"--strategy=multiworker: expected all {len(workers)} workers within "
                    f"--worker_timeout_seconds={timeout_seconds:g}. No answer from "
                    f"{', '.join(waiting)}; start them, or correct TF_CONFIG."
                )
            if waiting:
                time.sleep(0.2)
        # The slower workers must still find this one listening.
        time.sleep(1.0)


def check_same_settings(strategy: tf.distribute.Strategy, settings: Mapping[str, Any]) -> None:
    """Makes sure that all workers were started with the same settings.

    Workers that disagree would hang in their first collective, or train on nonsense.

    Args:
        strategy: the strategy that all workers share.
        settings: name to value; the same names on every worker.

    Raises:
        UserError: naming the settings that differ, on every worker.
    """
    names = sorted(settings)
    digests = [zlib.crc32(f"{name}={settings[name]}".encode()) for name in names]

    @tf.function  # these collectives warn when they run eagerly
    def gather():
        return strategy.gather(strategy.run(lambda: tf.constant([digests], tf.int64)), axis=0)

    gathered = gather().numpy()
    differ = [f"--{names[i]}" for i in np.flatnonzero(np.any(gathered != gathered[0], axis=0))]
    if differ:
        raise UserError(
            f"Expected the same flags on all workers. Received different values of "
            f"{', '.join(differ)}; start every worker with the same command."
        )


def _port(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def _listens(address: str) -> bool:
    try:
        with socket.create_connection((address.rsplit(":", 1)[0], _port(address)), timeout=1):
            return True
    except OSError:
        return False


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run directory."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0
    )
