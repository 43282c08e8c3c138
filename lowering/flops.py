"""The floating-point operations of a training step, counted from its layers.

The count is compared with the compiler's: a network that is traced twice, a backward pass
through the key encoder or a logits matrix computed per level would show up here.
"""

import math
from typing import Any, NamedTuple

import keras

from ifnd_tf.models.network import Network


class StepFlops(NamedTuple):
    """Operations of one training step on one replica; a multiply-add counts as two.

    Attributes:
        query: forward and backward through the query network.
        key: forward through the key network.
        logits: similarities to the negatives, forward and the anchors' gradient.
        views: the blur's matrix products, the views' only expensive part.
    """

    query: float
    key: float
    logits: float
    views: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def _taps(size: int, kernel: int, stride: int, padding: str) -> int:
    """Kernel taps that meet a real pixel along one axis, summed over all output positions.

    Taps in the zero padding are no work: neither the compiler's count nor this has them.
    """
    if padding == "valid":
        return ((size - kernel) // stride + 1) * kernel
    outputs = math.ceil(size / stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    starts = range(-before, -before + outputs * stride, stride)
    return sum(min(start + kernel, size) - max(start, 0) for start in starts)


def _layers(model: keras.Model) -> list[Any]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, _COUNTED)]


_COUNTED = (keras.layers.Conv2D, keras.layers.Dense)


def layer_flops(layer: Any) -> float:
    """Operations of one image's forward pass through a convolution or dense layer."""
    if isinstance(layer, keras.layers.Dense):
        return 2.0 * math.prod(layer.kernel.shape)
    _, height, width, _ = layer.input.shape
    rows, columns, channels, filters = layer.kernel.shape
    taps = _taps(height, rows, layer.strides[0], layer.padding) * _taps(
        width, columns, layer.strides[1], layer.padding
    )
    return 2.0 * taps * channels * filters


def step_flops(
    network: Network, *, batch: int, negatives: int, image_size: int, blurred: bool
) -> StepFlops:
    """Counts a MoCo step: query forward and backward, key forward, logits.

    Args:
        network: encoder and projector.
        batch: b, images on one replica.
        negatives: Q.
        image_size: S in pixels.
        blurred: whether the step blurs its views, two S x S products per view and channel.

    Returns:
        `StepFlops` of one replica's step.
    """
    counts = [layer_flops(layer) for part in network for layer in _layers(part)]
    forward = sum(counts)
    # A backward pass costs a forward pass twice: for the weights and for the inputs, but
    # the images need no gradient.
    query = 3.0 * forward - counts[0]
    logits = 2.0 * 2.0 * negatives * network.projector.output_shape[-1]
    blur = 2 * 2 * 2.0 * 3 * image_size**3 if blurred else 0.0
    return StepFlops(batch * query, batch * forward, batch * logits, batch * blur)
