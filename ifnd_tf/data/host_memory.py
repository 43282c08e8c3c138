"""Large tensors of the host, such as all images or a million paths, held in memory once."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Of the addresses of TensorFlow's own tensors, in bytes; it copies others.
_ALIGNMENT = 64


def host_constant(values: np.ndarray) -> tf.Tensor:
    """A tensor in the host's memory, to be made on first use: strategies must precede tensors."""
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

    For that each iterator copies all tensors that its functions hold. It gains no time here.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
