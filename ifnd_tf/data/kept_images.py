"""Decoded images in memory, one after the other, whatever their sizes."""

import copy
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.host_memory import host_constant, shareable_zeros, shared


class KeptImages:
    """The decoded images of a source, or the first of them that fit.

    Where all have one size, image i lies at i times its bytes, and those that cannot be read are
    black.

    Args:
        count: N, examples of the source.
        view_size: S of the views that the images are decoded for (`decode.decode_image`).
        least_side: the short side, in pixels, below which no image is reduced for these.
        room: bytes that may be used; those that are not filled take up no memory.
    """

    def __init__(self, count: int, view_size: int, least_side: float, room: int):
        self._view_size, self._least_side = view_size, least_side
        self._memory, self._end = shareable_zeros([room]), 0
        self._starts = np.full(count, -1, np.int64)
        self._shapes = np.zeros([count, 2], np.int32)
        self._one_shape: tuple[int, int] | None = None  # while all images have it
        self._in_full = True  # as far as their sizes tell

    def add(self, indices: Sequence[int], shapes: np.ndarray, pixels: np.ndarray) -> bool:
        """Takes images in ascending order, as many as fit; False: not all did.

        Args:
            indices: of the examples.
            shapes: int `[n, 2]`, heights and widths.
            pixels: uint8 `[sum of 3 H W]`, the images one after the other.
        """
        ends = np.cumsum(3 * shapes.astype(np.int64).prod(axis=1))
        for index, shape, end in zip(indices, shapes.tolist(), ends.tolist(), strict=True):
            size = 3 * shape[0] * shape[1]
            start = self._place(int(index), (shape[0], shape[1]))
            if start + size > len(self._memory):
                return False
            self._memory[start : start + size] = pixels[end - size : end]
            self._starts[index], self._shapes[index], self._end = start, shape, start + size
            self._in_full &= not self._view_size or min(shape) < int(self._least_side)
        return True

    def _place(self, index: int, shape: tuple[int, int]) -> int:
        if not self._end:
            self._one_shape = shape
        elif shape != self._one_shape:
            self._one_shape = None
        return self._end if self._one_shape is None else 3 * index * shape[0] * shape[1]

    def freeze(self) -> None:
        """Makes the tensors, once all images are there."""
        self._bytes = shared(self._memory)
        self._table = host_constant(self._starts), host_constant(self._shapes)

    @property
    def megabytes(self) -> int:
        """The memory in use, in 2**20 bytes, rounded up."""
        return -(-self._end >> 20)

    def subset(self, indices: np.ndarray) -> "KeptImages":
        """These examples, renumbered from 0, in the same memory."""
        part = copy.copy(self)
        part._starts, part._shapes = self._starts[indices], self._shapes[indices]
        part._one_shape = None
        part._table = host_constant(part._starts), host_constant(part._shapes)
        return part

    def serves(self, view_size: int) -> bool:
        """Whether the images are those that would be decoded for views of this size."""
        larger = not view_size or view_size > self._view_size > 0
        return view_size == self._view_size or (self._in_full and larger)

    def holds_all(self, indices: np.ndarray) -> bool:
        """Whether all these examples are here."""
        return bool((self._starts[indices] >= 0).all())

    def holds(self, index: tf.Tensor) -> tf.Tensor:
        """Whether an example is here: bool []."""
        return tf.gather(self._table[0], index) >= 0

    def shapes(self, index: tf.Tensor) -> tf.Tensor:
        """int32 `[..., 2]`, heights and widths of the examples `index` [...]."""
        return tf.gather(self._table[1], index)

    def image(self, index: tf.Tensor) -> tf.Tensor:
        """uint8 `[H, W, 3]` of an example that is here."""
        shape = tf.concat([self.shapes(index), [3]], 0)
        size = tf.reduce_prod(tf.cast(shape, tf.int64))
        pixels = tf.slice(self._bytes, [tf.gather(self._table[0], index)], [size])
        return tf.ensure_shape(tf.reshape(pixels, shape), [None, None, 3])

    def as_array(self) -> tf.Tensor | None:
        """uint8 `[N, H, W, 3]` where all are here, in full and of one size; else None."""
        if self._one_shape is None or not self._in_full:
            return None
        height, width = self._one_shape
        size, count = 3 * height * width, len(self._starts)
        if size * count > len(self._memory):
            return None
        return shared(self._memory[: size * count].reshape(count, height, width, 3))
