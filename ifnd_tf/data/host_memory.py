"""Large tensors of the host, such as all images or a million paths, held in memory once."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Alignment in bytes of TensorFlow's own tensors; it copies arrays that are aligned less.
_ALIGNMENT = 64


def host_constant(values: np.ndarray) -> tf.Tensor:
    """A tensor in the host's memory. Call it on first use: tensors must not precede strategies."""
    # init_scope: first use may be inside a tf.data function, whose tensors die with it.
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.constant(values)


def shareable_zeros(shape: Sequence[int]) -> np.ndarray:
    """uint8 zeros that `shared` can make a tensor of."""
    size = int(np.prod(shape))
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def shared(values: np.ndarray) -> tf.Tensor:
    """A tensor of the same memory as an array, which must not change any more.

    `tf.constant` would copy it twice.
    """
    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


def unrewritten(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same data set, without tf.data's rewriting of its graph.

    To rewrite, each iterator copies all tensors that its functions capture; it saves no time here.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
