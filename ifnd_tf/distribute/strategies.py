"""Strategies by name, and the workers of a job: waiting for them, comparing their settings."""

import dataclasses
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.errors import UserError


def make_strategy(
    name: str,
    *,
    tpu: str = "",
    worker_timeout_seconds: int = 300,
    deterministic: bool = False,
    threads: int = 0,
) -> tf.distribute.Strategy:
    """The strategy of the given name, connected and ready.

    Args:
        name: "auto", "none", "mirrored", "multiworker" or "tpu".
        tpu: name or address of the TPU; "local" on a Cloud TPU VM.
        worker_timeout_seconds: how long to wait for the workers that TF_CONFIG lists.
        deterministic: let this process use only operations that give the same bits each time.
        threads: of an operation on the CPU, in this process; 0: as TensorFlow chooses.

    Raises:
        UserError: if the machine lacks what the strategy needs, or TensorFlow has already started
            with another number of threads.
    """
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if threads:
        _set_threads(threads)
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


def _set_threads(threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise UserError(
            "--threads: expected a process in which TensorFlow has computed nothing yet. Received: "
            f"{threads}, after its start; use a new process, or threads=0."
        ) from error


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    if not tpu:
        raise UserError(
            "--strategy=tpu: expected --tpu=NAME, a grpc:// address, or local on a Cloud TPU VM. "
            "Received: no --tpu; give one of these."
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

    TensorFlow's own start-up waits for ever and prints nothing. This process listens at its own
    address meanwhile, since the others look for it in the same way.

    Raises:
        UserError: if TF_CONFIG is unusable or a worker cannot be found in time.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG", ""))
        workers, index = config["cluster"]["worker"], int(config["task"]["index"])
        port = [int(address.rsplit(":", 1)[1]) for address in workers][index]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            '--strategy=multiworker: expected TF_CONFIG = {"cluster": {"worker": ["host:port", '
            '...]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: {os.environ.get('TF_CONFIG')!r}."
        ) from error
    deadline = time.monotonic() + timeout_seconds
    with socket.create_server(("", port), reuse_port=True):
        waiting = [address for i, address in enumerate(workers) if i != index]
        while waiting := [address for address in waiting if not listens(address)]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--strategy=multiworker: expected all {len(workers)} workers within "
                    f"--worker_timeout_seconds={timeout_seconds:g}. No answer from "
                    f"{', '.join(waiting)}; start them, or correct TF_CONFIG."
                )
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
    gathered = workers(strategy).gather(np.array(digests, np.int64))
    differ = [f"--{names[i]}" for i in np.flatnonzero(np.any(gathered != gathered[0], axis=0))]
    if differ:
        raise UserError(
            f"Expected the same flags on all workers. Received different values of "
            f"{', '.join(differ)}; start every worker with the same command, and give settings "
            "that are auto a value where machines differ."
        )


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a run, as one of them sees them.

    Attributes:
        index: of this process, in [0, count).
        count: of the processes.
        gather: integers [n] of this process -> [m, n] of all, with m >= count, since a worker's row
            comes once for each of its devices. All must call it at once, with the same n.
    """

    index: int
    count: int
    gather: Callable[[np.ndarray], np.ndarray]

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set on any worker; all must call it at the same step."""
        return [bool(found) for found in self.gather(np.array(flags, np.int32)).max(axis=0)]


ALONE = Workers(0, 1, lambda own: own[None])


def workers(strategy: tf.distribute.Strategy) -> Workers:
    """The processes that share a strategy; a TPU pod has one, which directs all hosts."""
    if not strategy.extended._in_multi_worker_mode():
        return ALONE

    @tf.function(autograph=False)  # these collectives warn when they run eagerly
    def join(own: tf.Tensor) -> tf.Tensor:
        return strategy.gather(strategy.run(lambda x: x[None], args=(own,)), axis=0)

    return Workers(
        strategy.cluster_resolver.task_id,
        num_input_pipelines(strategy),
        lambda own: join(tf.convert_to_tensor(own)).numpy(),
    )


def listens(address: str) -> bool:
    """Whether a process listens at HOST:PORT."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def num_input_pipelines(strategy: tf.distribute.Strategy) -> int:
    """The number of hosts that read data, each its own shard."""
    if strategy.num_replicas_in_sync == 1:
        return 1
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return strategy.extended.num_hosts
    return strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run directory."""
    return workers(strategy).index == 0
