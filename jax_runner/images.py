"""The data set as one file, and on the devices for the whole run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.errors import UserError
from jax_runner.devices import Devices, taking


class Images(NamedTuple):
    """N images, dealt out to the devices, and their labels on the host.

    Attributes:
        pixels: uint8 [R n, H, W, 3], sharded; see `Devices`.
        labels: int32 [N], -1 where unknown.
        devices: which hold them.
    """

    pixels: Any
    labels: np.ndarray
    devices: Devices

    def take(self, rows: np.ndarray) -> Any:
        """The pixels of some rows [B], B a multiple of R: uint8 [B, H, W, 3], sharded."""
        rows = self.devices.put(rows.astype(np.int32), sharded=True)
        return taking(self.devices)(self.pixels, rows)

    def batches(self, size: int, rows: np.ndarray | None = None) -> Iterator[Any]:
        """The pixels of all rows, or of some, `size` at a time; the last ones repeat the last row.

        Yields:
            uint8 [size, H, W, 3], sharded.
        """
        rows = np.arange(len(self.labels)) if rows is None else rows
        for start in range(0, len(rows), size):
            places = np.minimum(np.arange(start, start + size), len(rows) - 1)
            yield self.take(rows[places])

    def own_batches(self, size: int) -> Iterator[Any]:
        """The pixels of all rows, `size` at a time, each device's own on it, in their order.

        Yields:
            uint8 [size, H, W, 3], sharded; a device's last rows repeat its last one.
        """
        count = len(self.devices)
        own, each = len(self.pixels) // count, size // count
        for start in range(0, own, each):
            places = np.minimum(np.arange(start, start + each), own - 1)
            yield self.take(np.add.outer(np.arange(count) * own, places).ravel())


def load(path: Path, sizes: dict[str, int], devices: Devices) -> tuple[Images, Images | None]:
    """Reads the training images and, if the manifest knows of any, the test images.

    Args:
        path: an .npz of `train_images` uint8 [N, H, W, 3], `train_labels` [N], and the same of
            `test_`.
        sizes: the manifest's "data".
        devices: to deal the images out to.

    Raises:
        UserError: the file is not there, or its images are not those the run was lowered for.
    """
    if not path.exists():
        raise UserError(
            f"--data: expected a file. Received: {path}, which does not exist; lowering "
            "--write_data or jax_runner.pixels writes one."
        )
    found: dict[str, Images] = {}
    with np.load(path) as stored:
        for part in ("train", "test"):
            if not sizes[part]:
                continue
            missing = {f"{part}_images", f"{part}_labels"} - set(stored.files)
            if missing:
                raise UserError(f"{path}: expected {' and '.join(sorted(missing))}. Not there.")
            pixels, labels = stored[f"{part}_images"], stored[f"{part}_labels"]
            wanted = (sizes[part], sizes["height"], sizes["width"], 3)
            if pixels.shape != wanted or pixels.dtype != np.uint8 or labels.shape != wanted[:1]:
                raise UserError(
                    f"{path}: expected {part}_images as uint8 {list(wanted)} with a label each, as "
                    f"the run was lowered for. Received: {pixels.dtype} {list(pixels.shape)} and "
                    f"{labels.shape[0]} labels."
                )
            found[part] = Images(devices.deal(pixels), labels.astype(np.int32), devices)
    return found["train"], found.get("test")
