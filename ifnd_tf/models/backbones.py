"""Encoders by name."""

from typing import Any

import keras

from ifnd_tf.errors import UserError
from ifnd_tf.models import keras_applications, keras_hub_networks
from ifnd_tf.models.batch_norm import BatchNorm
from ifnd_tf.models.resnet import RESNETS, resnet, small_resnet_blocks

KERAS, HUB = "keras:", "hub:"


def build(
    name: str,
    *,
    image_size: int,
    stem: str = "imagenet",
    depth: int = 8,
    width: int = 16,
    batch_norm: str = "local",
    batch_norm_splits: int = 8,
) -> keras.Model:
    """Builds an encoder.

    Args:
        name: "resnet18", "resnet34", "resnet50", "resnet101", "resnet_small", "resnet_tiny"
            (one block, for tests and trials), "keras:NAME" for a network of
            `keras.applications`, or "hub:NAME" for a Vision Transformer of KerasHub.
        image_size: side of the square input, in pixels.
        stem: first layers of our ResNets, see `resnet`.
        depth: layers of resnet_small, 6n + 2.
        width: channels of the first stage of resnet_small and resnet_tiny.
        batch_norm: a policy of `BatchNorm`; it also replaces the batch normalisation of
            `keras.applications` networks.
        batch_norm_splits: parts of a batch for "split".

    Returns:
        A functional model from normalised float images [b, S, S, 3] to features [b, F].

    Raises:
        UserError: if there is no such network, or it does not take this image size.
    """

    def norm(layer_name: str, **kwargs: Any) -> BatchNorm:
        return BatchNorm(batch_norm, batch_norm_splits, name=layer_name, **kwargs)

    if name in RESNETS:
        blocks, channels, bottleneck = RESNETS[name]
        return resnet(
            image_size=image_size, blocks=blocks or small_resnet_blocks(depth),
            width=channels or width, bottleneck=bottleneck, stem=stem, norm=norm, name=name,
        )  # fmt: skip
    if name.startswith(KERAS):
        return keras_applications.encoder(name.removeprefix(KERAS), image_size, norm)
    if name.startswith(HUB):
        return keras_hub_networks.encoder(name.removeprefix(HUB), image_size)
    known = ", ".join([*RESNETS, f"{KERAS}NAME", f"{HUB}NAME"])
    raise UserError(f"--backbone: expected one of {known}. Received: {name!r}.")
