"""The paths of a data set's files, in little memory."""

import array
import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from ifnd_tf.data.host_memory import host_constant

# Paths per string. TensorFlow would write one long string into every graph that uses it.
_TOGETHER = 16


class PackedPaths:
    """N paths, several per string: with a string each, a million take three times the memory.

    Args:
        paths: as the operating system gives them; names need not be UTF-8.
    """

    def __init__(self, paths: Iterable[str]):
        ends, text = array.array("i"), b""
        self._strings: list[bytes] = []
        for path in paths:
            text += os.fsencode(path)
            ends.append(len(text))
            if not len(ends) % _TOGETHER:
                self._strings.append(text)
                text = b""
        self._strings.append(text)
        self._ends = np.array(ends, np.int32)  # of each path in its string
        self._tensors: tuple[tf.Tensor, tf.Tensor] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        string, place = divmod(index, _TOGETHER)
        start = self._ends[index - 1] if place else 0
        return os.fsdecode(self._strings[string][start : self._ends[index]])

    def take(self, indices: np.ndarray) -> "PackedPaths":
        """The paths at some indices."""
        return PackedPaths(self[index] for index in indices)

    def look_up(self, index: tf.Tensor) -> tf.Tensor:
        """The path at an integer scalar: a string scalar, in graph operations."""
        if self._tensors is None:
            self._tensors = (
                host_constant(np.array(self._strings, object)),
                host_constant(self._ends),
            )
        strings, ends = self._tensors
        start = tf.where(index % _TOGETHER > 0, tf.gather(ends, tf.maximum(index - 1, 0)), 0)
        length = tf.gather(ends, index) - start
        return tf.strings.substr(tf.gather(strings, index // _TOGETHER), start, length)
