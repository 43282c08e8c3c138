"""Residual networks (He et al. 2015, arXiv 1512.03385) for ImageNet and CIFAR sizes.

Our own, because the batch-norm policy is part of the method.
"""

from collections.abc import Callable, Sequence

import keras

from ifnd_tf.errors import UserError

# Blocks of each stage (none: by --depth), channels of the first stage (0: by --width), bottleneck?
RESNETS: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "resnet18": ((2, 2, 2, 2), 64, False),
    "resnet34": ((3, 4, 6, 3), 64, False),
    "resnet50": ((3, 4, 6, 3), 64, True),
    "resnet101": ((3, 4, 23, 3), 64, True),
    "resnet_small": ((), 0, False),
    "resnet_tiny": ((1,), 0, False),
}

Norm = Callable[[str], keras.layers.Layer]


def resnet(
    *,
    image_size: int,
    blocks: Sequence[int],
    width: int,
    bottleneck: bool,
    stem: str,
    norm: Norm,
    name: str,
) -> keras.Model:
    """Builds a ResNet without its classifier.

    Args:
        image_size: side of the square input, in pixels.
        blocks: residual blocks of each stage; the width doubles from stage to stage.
        width: channels of the first stage.
        bottleneck: 1x1-3x3-1x1 blocks with four times the width at the end (ResNet-50 and
            deeper; the stride sits in the 3x3 layer, as in torchvision).
        stem: "imagenet" (7x7 stride 2, max pooling), "cifar" (3x3 stride 1), or "stride2" (3x3
            stride 2: four times cheaper than "cifar", for small images on small machines).
        norm: makes a normalisation layer of the given name.
        name: the model's name.

    Returns:
        A functional model from normalised float images [b, S, S, 3] to float32 features
        [b, F], the last stage averaged over space.
    """
    inputs = keras.Input((image_size, image_size, 3), name="images")
    kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "stride2": (3, 2)}[stem]
    x = _conv(inputs, width, kernel, stride, "stem")
    x = keras.layers.ReLU()(norm("stem_norm")(x))
    if stem == "imagenet":
        x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            block = f"stage{stage + 1}_block{number + 1}"
            x = _block(x, width * 2**stage, stride, bottleneck, norm, block)
    # Averaging in float32: bfloat16 has too few digits for a mean over many pixels.
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    return keras.Model(inputs, x, name=name)


def small_resnet_blocks(depth: int) -> list[int]:
    """Blocks of each stage of the CIFAR ResNet of He et al., section 4.2: 6n + 2 layers.

    Raises:
        UserError: if `depth` is not 6n + 2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise UserError(f"--depth: expected 6n + 2, so 8, 14, 20, ... Received: {depth}.")
    return [(depth - 2) // 6] * 3


def _conv(x, filters: int, kernel: int, stride: int, name: str):
    padding = "same"
    if kernel == 1 and stride > 1:
        # The same numbers as a strided 1x1 convolution, whose backward pass corrupts memory
        # in TensorFlow 2.21's CPU library when there are few channels. Averages of one pixel,
        # since x[:, ::2, ::2] takes a CPU ten times as long.
        x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_pool")(x)
        stride = 1
    if stride == 2:
        # "same" pads a strided convolution on one side only; the paper pads both.
        x, padding = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
    start = keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
    return keras.layers.Conv2D(
        filters, kernel, stride, padding, use_bias=False, kernel_initializer=start, name=name
    )(x)


def _block(x, filters: int, stride: int, bottleneck: bool, norm: Norm, name: str):
    """A residual block; its layers as (kernel, filters, stride)."""
    layers = [(3, filters, stride), (3, filters, 1)]
    if bottleneck:
        layers = [(1, filters, 1), (3, filters, stride), (1, 4 * filters, 1)]
    y = x
    for number, (kernel, width, step) in enumerate(layers, 1):
        if number > 1:
            y = keras.layers.ReLU()(y)
        y = norm(f"{name}_norm{number}")(_conv(y, width, kernel, step, f"{name}_conv{number}"))
    width = layers[-1][1]
    if x.shape[-1] != width or stride != 1:
        x = norm(f"{name}_norm0")(_conv(x, width, 1, stride, f"{name}_conv0"))
    return keras.layers.ReLU()(keras.layers.Add()([x, y]))
