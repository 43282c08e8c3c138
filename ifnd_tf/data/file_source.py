"""Examples that are image files of their own, as folders and lists give them."""

import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import printable
from ifnd_tf.data.packed_paths import PackedPaths
from ifnd_tf.data.source import Source


class FileSource(Source):
    """Examples that are image files of their own.

    Args:
        name: how the user named it.
        root: folder to which the paths are relative; "" for the working directory.
        paths: N paths, read once.
        labels: `[N]`, -1 where unknown.
        class_names: the classes, by label.
        targets: int8 `[N, C]` of images with several labels each, see `Source`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        paths: Iterable[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        targets: np.ndarray | None = None,
    ):
        super().__init__(name, len(labels), class_names, labels)
        self.targets = targets
        self._start, self._paths = os.path.join(root, ""), PackedPaths(paths)
        # Not in `fetch`, which AutoGraph traces: it warns of functions that it cannot read.
        self._start_bytes = os.fsencode(self._start)

    def describe(self, index: int) -> str:
        """The file's path."""
        return printable(self.path(index))

    def path(self, index: int) -> str:
        """The file's path, as the operating system wants it."""
        return self._start + self._paths[index]

    @property
    def sizes(self) -> np.ndarray:
        """See `Source.sizes`."""
        return np.array([_size(self.path(i)) for i in range(self.num_examples)], np.int64)

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The file's bytes."""
        return tf.io.read_file(self._start_bytes + self._paths.look_up(index))

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`."""
        super().limit(indices)
        self._paths = self._paths.take(indices)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return -1
