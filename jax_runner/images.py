"""The data set as one file, and on the device for the whole run."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.errors import UserError


class Images(NamedTuple):
    """Some images on the device, their labels on the host.

    Attributes:
        pixels: uint8 [n, H, W, 3].
        labels: int32 [n], -1 where unknown.
    """

    pixels: Any
    labels: np.ndarray

    def batches(self, size: int, rows: np.ndarray | None = None) -> Iterator[Any]:
        """The pixels of all rows, or of some, `size` at a time; the last ones repeat the last row.

        Yields:
            uint8 [size, H, W, 3] on the device.
        """
        rows = np.arange(len(self.labels)) if rows is None else rows
        for start in range(0, len(rows), size):
            places = np.minimum(np.arange(start, start + size), len(rows) - 1)
            yield _taken()(self.pixels, rows[places])


@functools.cache
def _taken() -> Any:
    """Pixels and row numbers -> those rows; compiled once for each shape."""
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda pixels, rows: jnp.take(pixels, rows, axis=0))


def load(path: Path, sizes: dict[str, int]) -> tuple[Images, Images | None]:
    """Reads the training images and, if the manifest knows of any, the test images.

    Args:
        path: an .npz of `train_images` uint8 [N, H, W, 3], `train_labels` [N], and the same of
            `test_`.
        sizes: the manifest's "data".

    Raises:
        UserError: the file is not there, or its images are not those the run was lowered for.
    """
    import jax

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
            found[part] = Images(jax.device_put(pixels), labels.astype(np.int32))
    return found["train"], found.get("test")
