"""Vision Transformers of KerasHub, the extra `hub`."""

import os
from types import ModuleType

import keras
import numpy as np

from ifnd_tf.config.model import VIT
from ifnd_tf.errors import UserError
from ifnd_tf.models.input_scale import InputScale

# Width, layers and heads: Dosovitskiy et al. 2020 (arXiv 2010.11929), table 1; tiny and small are
# those of Touvron et al. 2020 (arXiv 2012.12877), table 1.
_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


def encoder(name: str, image_size: int) -> keras.Model:
    """A Vision Transformer with fresh weights.

    Args:
        name: vit_SIZE_patchN, or the folder of a KerasHub preset, which gives the architecture and
            the scale of pixels.
        image_size: S, in pixels; a multiple of the patch.

    Returns:
        A functional model from normalised float images [b, S, S, 3] to float32 features [b, F]:
        the class token, or the mean over tokens where there is none.

    Raises:
        UserError: without KerasHub, for an unknown name, or an image size that does not fit.
    """
    keras_hub = _keras_hub()
    # In KerasHub's ViT presets pixels are on a scale of -1 to 1.
    scale = InputScale(np.full(3, 1 / 127.5), np.full(3, -1.0))
    try:
        if match := VIT.fullmatch(name):
            backbone = _vit(keras_hub, match["size"], int(match["patch"]), image_size)
        else:
            backbone = keras_hub.models.Backbone.from_preset(
                name, load_weights=False, image_shape=(image_size, image_size, 3)
            )
            scale = _preset_scale(keras_hub, name) or scale
    except (ValueError, OSError) as error:
        raise UserError(
            f"--backbone=hub:{name}: expected a Vision Transformer for images of --image_size="
            f"{image_size}. Received: {error}"
        ) from error
    images = keras.Input([image_size, image_size, 3], name="images")
    tokens = backbone(scale.of_normalised(images))
    if len(tokens.shape) != 3:
        raise UserError(
            f"--backbone=hub:{name}: expected a Vision Transformer. Received: "
            f"{type(backbone).__name__}, whose output is {tokens.shape}."
        )
    if getattr(backbone, "use_class_token", False):
        features = tokens[:, 0]
    else:
        features = keras.ops.mean(tokens, axis=1)
    features = keras.layers.Activation("linear", dtype="float32", name="features")(features)
    return keras.Model(images, features, name=os.path.basename(name.rstrip("/")))


def pretrained(folder: str) -> keras.Model:
    """The network of a preset's folder, with its weights, for images of the preset's size.

    Raises:
        UserError: without KerasHub.
        ValueError: if it is no preset.
    """
    return _keras_hub().models.Backbone.from_preset(folder)


def _vit(keras_hub: ModuleType, size: str, patch: int, image_size: int) -> keras.Model:
    width, layers, heads = _SIZES[size]
    return keras_hub.models.ViTBackbone(
        image_shape=(image_size, image_size, 3), patch_size=patch, num_layers=layers,
        num_heads=heads, hidden_dim=width, mlp_dim=4 * width, name=f"vit_{size}",
    )  # fmt: skip


def _preset_scale(keras_hub: ModuleType, folder: str) -> InputScale | None:
    """The scale of a preset's image converter; None where it has none."""
    if not os.path.exists(os.path.join(folder, "image_converter.json")):
        return None
    converter = keras_hub.layers.ImageConverter.from_preset(folder)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return InputScale(np.broadcast_to(scale, 3), np.broadcast_to(offset, 3))


def _keras_hub() -> ModuleType:
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            "--backbone=hub: expected the package keras-hub. Received: none installed "
            f'({error}); pip install "ifnd-tf[hub]", or choose another --backbone.'
        ) from error
    return keras_hub
