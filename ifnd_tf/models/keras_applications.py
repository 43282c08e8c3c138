"""Networks of `keras.applications`, each with its own input convention inside."""

import inspect
import warnings
from collections.abc import Callable

import keras
import numpy as np

from ifnd_tf.data.photometric import MEAN, STD
from ifnd_tf.errors import UserError
from ifnd_tf.models.input_scale import InputScale


def encoder(name: str, image_size: int, norm: Callable[..., keras.layers.Layer]) -> keras.Model:
    """A network without its classifier, with fresh weights and our batch normalisation.

    Its first layers map normalised images to the scale that its `preprocess_input` gives pixels. A
    `Normalization` layer becomes a `Rescaling` by constants: without its ImageNet weights
    EfficientNet's has no statistics, and a checkpoint would not restore them.

    Args:
        name: as in `keras.applications`.
        image_size: S, in pixels.
        norm: makes a batch normalisation from a name, epsilon and scale.

    Returns:
        A functional model from normalised float images [b, S, S, 3] to features [b, F].

    Raises:
        UserError: if there is no such network, or it does not take this image size.
    """
    images = keras.Input([image_size, image_size, 3], name="images")
    scaled = input_scale(name).of_normalised(images)
    try:
        model = _construct(
            name, weights=None, input_tensor=scaled, input_shape=(image_size, image_size, 3)
        )
    except ValueError as error:
        raise UserError(
            f"--image_size: expected a size that --backbone=keras:{name} takes. Received: "
            f"{image_size} ({error})."
        ) from error

    def replace(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return norm(layer.name, epsilon=layer.epsilon, scale=layer.scale)
        if isinstance(layer, keras.layers.Normalization):
            return _constant(layer)
        return layer.__class__.from_config(layer.get_config())

    single = keras.Model(images, model.output, name=model.name)  # Keras' takes a list of inputs
    return keras.models.clone_model(single, clone_function=replace)


def pretrained(name: str, weights: str) -> keras.Model:
    """Keras' own network with weights.

    Args:
        name: as in `keras.applications`.
        weights: "imagenet", from Keras' cache or downloaded; or a file of weights.

    Raises:
        ValueError: if the file does not fit.
        Exception: if the file of "imagenet" can neither be found nor be downloaded.
    """
    with warnings.catch_warnings():
        # Weights of MobileNets exist for some sizes of images, and serve any.
        warnings.simplefilter("ignore", UserWarning)
        return _construct(name, weights=weights)


def input_scale(name: str) -> InputScale:
    """The scale that `preprocess_input` of the network's family gives pixels."""
    preprocess = inspect.getmodule(_constructor(name)).preprocess_input  # type: ignore[union-attr]
    # Black and each pure colour suffice, since it maps each channel affinely, perhaps reordered.
    probes = np.concatenate([np.zeros([1, 3]), np.diag([255.0] * 3)])[None, None]
    black, *colours = np.asarray(preprocess(probes))[0, 0]
    gains = (np.stack(colours) - black) / 255  # of each colour for each output
    reverse = bool(gains[0, 0] == 0)
    return InputScale(gains.sum(axis=1), black[::-1] if reverse else black, reverse)


def _construct(name: str, **options) -> keras.Model:
    return _constructor(name)(include_top=False, pooling="avg", **options)


def _constructor(name: str) -> Callable[..., keras.Model]:
    constructor = getattr(keras.applications, name, None)
    if not inspect.isfunction(constructor):
        names = [n for n in dir(keras.applications) if n[0].isupper()]
        raise UserError(
            f"--backbone: expected keras: and one of {', '.join(names)}. Received: {name!r}."
        )
    return constructor


def _constant(layer: keras.layers.Normalization) -> keras.layers.Layer:
    config = layer.get_config()
    mean, variance = config["mean"], config["variance"]
    if mean is None:  # in EfficientNet's weights, which have ImageNet's
        mean, variance = MEAN, np.square(STD)
    mean, deviation = np.ravel(mean), np.sqrt(np.ravel(variance))
    return keras.layers.Rescaling(
        (1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name,
        dtype=layer.dtype_policy,
    )  # fmt: skip
