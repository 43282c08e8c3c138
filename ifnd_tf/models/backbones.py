"""Encoders by name."""

import inspect

import keras

from ifnd_tf.errors import UserError
from ifnd_tf.models.batch_norm import BatchNorm
from ifnd_tf.models.resnet import RESNETS, resnet, small_resnet_blocks

_KERAS_PREFIX = "keras:"


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
            (one block, for tests and trials), or "keras:NAME" for a network of
            `keras.applications`.
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

    def norm(layer_name: str) -> BatchNorm:
        return BatchNorm(batch_norm, batch_norm_splits, name=layer_name)

    if name in RESNETS:
        blocks, channels, bottleneck = RESNETS[name]
        return resnet(
            image_size=image_size, blocks=blocks or small_resnet_blocks(depth),
            width=channels or width, bottleneck=bottleneck, stem=stem, norm=norm, name=name,
        )  # fmt: skip
    if name.startswith(_KERAS_PREFIX):
        return _keras_application(name.removeprefix(_KERAS_PREFIX), image_size, norm)
    known = ", ".join([*RESNETS, f"{_KERAS_PREFIX}NAME"])
    raise UserError(f"--backbone: expected one of {known}. Received: {name!r}.")


def _keras_application(name: str, image_size: int, norm) -> keras.Model:
    constructor = getattr(keras.applications, name, None)
    if not inspect.isfunction(constructor):
        names = [n for n in dir(keras.applications) if n[0].isupper()]
        raise UserError(
            f"--backbone: expected keras: and one of {', '.join(names)}. Received: {name!r}."
        )
    options = {"include_top": False, "weights": None, "pooling": "avg"}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False  # our images come normalised
    try:
        model = constructor(input_shape=(image_size, image_size, 3), **options)
    except ValueError as error:
        raise UserError(
            f"--backbone=keras:{name} does not take --image_size={image_size}: {error}"
        ) from error

    def replace(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return norm(layer.name)
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=replace)
