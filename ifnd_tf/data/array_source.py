"""Examples that are in memory from the start."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.host_memory import host_constant
from ifnd_tf.data.source import Source


class ArraySource(Source):
    """Examples that are in memory from the start.

    Args:
        name: how the user named it.
        images: uint8 `[N, H, W, 3]`.
        labels: `[N]`, -1 where unknown.
        class_names: the classes, by label.
        ids: `[N]` names of the examples; None: their indices.
    """

    def __init__(
        self,
        name: str,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str] = (),
        ids: np.ndarray | None = None,
    ):
        super().__init__(name, len(images), class_names, labels)
        self._images = np.ascontiguousarray(images, np.uint8)
        self._ids = np.arange(len(images)) if ids is None else ids
        self.scanned = True

    @property
    def pixels(self) -> tf.Tensor:
        """uint8 `[N, H, W, 3]` tensor."""
        if self._array is None:
            self._array = host_constant(self._images)
        return self._array

    def describe(self, index: int) -> str:
        """The example's name."""
        return f"{self.name} {self._ids[index]}"

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """uint8 `[H, W, 3]` of an index."""
        return tf.gather(self.pixels, index)

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`."""
        super().limit(indices)
        self._images, self._ids = self._images[indices], self._ids[indices]
