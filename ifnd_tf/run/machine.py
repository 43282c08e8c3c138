"""The machine: memory of the host and its accelerators, free disk space, processes.

Imports TensorFlow only to ask about devices.
"""

import contextlib
import os
import pathlib
import resource
import shutil
import sys
from multiprocessing import resource_tracker

import psutil

# Where Linux says how much memory a container may use: limit and current use.
_CGROUP = "/sys/fs/cgroup/memory."


def free_memory() -> int:
    """Bytes that this process may still take from the host, within its container's limit."""
    free = psutil.virtual_memory().available
    try:
        limit = int(pathlib.Path(f"{_CGROUP}max").read_text())
        free = min(free, limit - int(pathlib.Path(f"{_CGROUP}current").read_text()))
    except (OSError, ValueError):  # No such limit, or "max".
        pass
    return max(free, 0)


def accelerator_memory() -> int | None:
    """Bytes of the smallest GPU that TensorFlow may use; None without a GPU."""
    from tensorflow.python.client import device_lib

    limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
    return min(limits, default=None)


def peak_memory() -> int:
    """The most bytes in use so far: of the fullest GPU, or else of this process."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        info = (
            tf.config.experimental.get_memory_info(gpu.name.split("device:")[1]) for gpu in gpus
        )
        return max(each["peak"] for each in info)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


def free_disk(path: str) -> int | None:
    """Bytes free where a path is or would be made; None for gs://."""
    if "://" in path:
        return None
    there = os.path.abspath(path)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    return shutil.disk_usage(there).free


def prepare_for_jobs() -> None:
    """To be called before TensorFlow starts, if this process will start others that share a GPU."""
    # Else each process would take all of the GPU's memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Else Python starts the tracker with the first process, within `image_messages.dropped`. It
    # inherits file descriptor 2, the filter's pipe, and would hold it open until this process ends.
    resource_tracker.ensure_running()


def io_device() -> str | None:
    """The device for TensorFlow's file operations: this host, not that of a remote TPU.

    None in a job of several workers, where no device has this name and none is needed.
    """
    import tensorflow as tf

    local = any("/job:localhost" in each.name for each in tf.config.list_logical_devices("CPU"))
    return "/job:localhost" if local else None


def is_alive(pid: int) -> bool:
    """Whether this machine runs a process of that number."""
    with contextlib.suppress(OverflowError):
        return psutil.pid_exists(pid)
    return False
