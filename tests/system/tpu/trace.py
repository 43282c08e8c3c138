"""A TPUStrategy with no TPU: its cores are logical CPU devices, so it can trace but not run.

Everything that a step does differently on a TPU happens while it is traced: which
collectives a replica context emits, how variables are mirrored, which branch
`replicas.py` takes. A strategy that believes it has TPU cores therefore shows the
very graph that a TPU would be given.
"""

import functools

import numpy as np
import tensorflow as tf
from tensorflow.python.client import session
from tensorflow.python.tpu import tpu_system_metadata


class _PretendResolver(tf.distribute.cluster_resolver.ClusterResolver):
    """Answers the questions that TPUStrategy asks about its TPU, for one host."""

    def __init__(self, num_replicas: int):
        super().__init__()
        self._num_replicas = num_replicas

    def get_tpu_system_metadata(self) -> tpu_system_metadata.TPUSystemMetadata:
        devices = [
            session._DeviceAttributes(
                f"/job:localhost/replica:0/task:0/device:TPU:{i}", "TPU", 0, 0
            )
            for i in range(self._num_replicas)
        ]
        return tpu_system_metadata.TPUSystemMetadata(
            num_cores=self._num_replicas,
            num_hosts=1,
            num_of_cores_per_host=self._num_replicas,
            topology=None,
            devices=devices,
        )

    def master(self, task_type=None, task_id=None, rpc_layer=None) -> str:
        return ""

    def cluster_spec(self) -> None:
        return None

    def num_accelerators(self, task_type=None, task_id=None, config_proto=None) -> dict[str, int]:
        return {"TPU": self._num_replicas}


@functools.cache
def split_cpu(num_devices: int) -> list[str]:
    """Splits the CPU into logical devices; must come before TensorFlow's first operation.

    Returns:
        The devices' full names.
    """
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
    return [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(num_devices)]


@functools.cache
def pretend_strategy(num_replicas: int) -> tf.distribute.TPUStrategy:
    """A `TPUStrategy` of `num_replicas` cores on one host, for tracing only.

    Args:
        num_replicas: how many cores; >= 1.

    Returns:
        The strategy. Variables made in its scope live on logical CPU devices.
    """
    cores = split_cpu(num_replicas)
    strategy = tf.distribute.TPUStrategy(_PretendResolver(num_replicas))
    # The constructor derives hosts from TPU names, so the cores can only become CPUs afterwards.
    extended = strategy.extended
    extended._tpu_devices = np.array([[core] for core in cores], dtype=object)
    extended._device_input_worker_devices.clear()
    extended._host_input_worker_devices.clear()
    extended._device_input_worker_devices[cores[0]] = list(cores)
    extended._host_input_worker_devices[cores[0]] = [cores[0]] * num_replicas
    return strategy
