"""The least time a compiled step can take on a chip: Williams et al. 2009's roofline.

A bound, not a forecast: it takes the chip's published peaks, counts no communication
between cores and no waiting for the host, and takes every byte that XLA's cost analysis
counts to come from HBM, although some stay in the core's own memory.
"""

from typing import NamedTuple

from tests.system.tpu.chips import Chip


class Roofline(NamedTuple):
    """Bounds for one step.

    Attributes:
        compute_seconds: flops at the peak rate.
        memory_seconds: bytes at the peak bandwidth.
        step_seconds: the larger of the two.
        images_per_second: of the whole slice, at step_seconds.
    """

    compute_seconds: float
    memory_seconds: float
    step_seconds: float
    images_per_second: float


def roofline(chip: Chip, *, flops: float, bytes_accessed: float, replica_batch: int) -> Roofline:
    """Bounds a step's time.

    Args:
        chip: whose peaks to use.
        flops: operations a step does on one device.
        bytes_accessed: bytes it moves there.
        replica_batch: images it handles there.
    """
    compute = flops / chip.device_flops
    memory = bytes_accessed / chip.device_bandwidth
    step = max(compute, memory)
    return Roofline(compute, memory, step, replica_batch * chip.replicas / step)
