"""Published peaks of each TPU, and how libtpu names its smallest whole slice.

Numbers are Google's, per chip, from the pages "TPU v3", "TPU v4", "TPU v5e", "TPU v5p"
and "TPU v6e" of the Cloud TPU documentation (`url`). A v3 chip shows two TensorCores
to a program; v4 and v5p join a chip's two into one device ("a single logical core").
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """One kind of TPU.

    Attributes:
        topology: the slice of the name, as libtpu spells it.
        replicas: devices that a program sees in that slice.
        devices_per_chip: devices a program sees on one chip.
        flops: peak bfloat16 operations a second, per chip.
        bandwidth: HBM bytes a second, per chip.
        hbm: HBM bytes, per chip.
        host_chips: chips that one host feeds.
        url: page that the peaks come from.
        megacore: whether libtpu must be told to join a chip's two cores.
    """

    topology: str
    replicas: int
    devices_per_chip: int
    flops: float
    bandwidth: float
    hbm: float
    host_chips: int
    url: str
    megacore: bool = False

    @property
    def device_flops(self) -> float:
        """Peak bfloat16 operations a second of what a program sees as one device."""
        return self.flops / self.devices_per_chip

    @property
    def device_bandwidth(self) -> float:
        """HBM bytes a second of one device."""
        return self.bandwidth / self.devices_per_chip

    @property
    def device_hbm(self) -> float:
        """HBM bytes of one device."""
        return self.hbm / self.devices_per_chip


_PAGES = "https://docs.cloud.google.com/tpu/docs/"
_GIB = float(1 << 30)

CHIPS: dict[str, Chip] = {
    "v3-8": Chip("v3:2x2", 8, 2, 123e12, 900e9, 32 * _GIB, 4, _PAGES + "v3"),
    "v4-8": Chip("v4:2x2x1", 4, 1, 275e12, 1200e9, 32 * _GIB, 4, _PAGES + "v4", True),
    "v5e-8": Chip("v5e:2x4", 8, 1, 197e12, 819e9, 16 * _GIB, 8, _PAGES + "v5e"),
    "v5p-8": Chip("v5p:2x2x1", 4, 1, 459e12, 2765e9, 95 * _GIB, 4, _PAGES + "v5p"),
    "v6e-8": Chip("v6e:2x4", 8, 1, 918e12, 1638e9, 32 * _GIB, 8, _PAGES + "v6e"),
}
