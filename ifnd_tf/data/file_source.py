"""Examples that are image files of their own, as folders and lists give them."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import printable
from ifnd_tf.data.source import Source, host_constant


class FileSource(Source):
    """Examples that are image files of their own.

    Args:
        name: how the user named it.
        root: folder to which the paths are relative; "" for the working directory.
        paths: N paths.
        labels: `[N]`, -1 where unknown.
        class_names: the classes, by label.
        targets: int8 `[N, C]` of images with several labels each, see `Source`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        paths: Sequence[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        targets: np.ndarray | None = None,
    ):
        super().__init__(name, len(paths), class_names, labels)
        self.targets = targets
        # Apart, since a million paths take memory.
        self._start, self._paths = os.path.join(root, ""), np.array(paths, object)
        self._table: tf.Tensor | None = None

    def describe(self, index: int) -> str:
        """The file's path."""
        return printable(self.path(index))

    def path(self, index: int) -> str:
        """The file's path, as the operating system wants it."""
        return self._start + self._paths[index]

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The file's bytes."""
        if self._table is None:
            self._table = host_constant(self._encoded_paths())
        return tf.io.read_file(os.fsencode(self._start) + tf.gather(self._table, index))

    @tf.autograph.experimental.do_not_convert
    def _encoded_paths(self) -> np.ndarray:
        # Names need not be UTF-8, which TensorFlow expects of a str.
        return np.array([os.fsencode(path) for path in self._paths], object)

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`."""
        super().limit(indices)
        self._paths, self._table = self._paths[indices], None
