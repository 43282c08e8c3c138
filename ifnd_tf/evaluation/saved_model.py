"""Features from any SavedModel, so that every protocol runs on encoders of others too."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run.pretrained import no_saved_model


class SavedModelFeatures:
    """A SavedModel's features, as a function for `Embedder`.

    Args:
        call: uint8 images `[b, H, W, 3]` -> {"features": float32 `[b, F]`}.
        model: the loaded model; the signature alone does not keep its variables alive.
        image_size: the longer side of the images that it takes, in pixels; None: any size.
    """

    def __init__(
        self,
        call: Callable[[tf.Tensor], dict[str, tf.Tensor]],
        model: Any,
        image_size: int | None,
    ):
        self._call, self._model, self.image_size = call, model, image_size

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._call(images)


def load_features(
    path: str,
    signature: str = "serving_default",
    output: str = "features",
    *,
    flag: str = "saved_model",
) -> SavedModelFeatures:
    """Makes a SavedModel's signature a function for `Embedder`.

    Images are brought to what the signature's one input takes: resized if it has a fixed size,
    and divided by 255 if it is of floats (the convention of TensorFlow Hub; a model that wants
    other values must be wrapped first).

    Args:
        path: the SavedModel's directory, local or gs://.
        signature: which signature to call.
        output: which of its outputs holds the features, `[b, F]`, or `[b, h, w, F]`, which is
            averaged over h and w.
        flag: the flag that names the model, for messages.

    Raises:
        UserError: if there is no SavedModel, or it has no such signature or output, or the
            signature does not take one batch of images.
    """
    path = os.path.expanduser(path)
    if not tf.saved_model.contains_saved_model(path):
        raise no_saved_model(flag, path)
    model = tf.saved_model.load(path)
    call = _named("--saved_model_signature", signature, model.signatures, repr(path))
    source = f"signature {signature!r} of {path!r}"
    shape = _named("--saved_model_output", output, call.structured_outputs, source).shape
    if shape.rank not in (None, 2, 4):
        raise UserError(
            f"--saved_model_output: expected {output!r} to be [b, F] or [b, h, w, F]. Received: "
            f"{shape}; name another output."
        )
    name, spec = _image_input(call, path, signature)

    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = call(**{name: _fit(images, spec)})[output]
        if found.shape.rank == 4:
            found = tf.reduce_mean(found, axis=[1, 2])
        return {"features": tf.cast(found, tf.float32)}

    sides = spec.shape[1:3].as_list() if spec.shape.rank else []
    return SavedModelFeatures(features, model, max(sides) if sides and all(sides) else None)


def _named(flag: str, name: str, known: Mapping[str, Any], source: str) -> Any:
    if name not in known:
        there = f"It has: {', '.join(sorted(known))}; name one of those."
        raise UserError(
            f"{flag}: expected one that {source} has. Received: {name!r}. "
            f"{there if known else 'It has none; save the model again with signatures=.'}"
        )
    return known[name]


def _image_input(
    call: tf.types.experimental.ConcreteFunction, path: str, signature: str
) -> tuple[str, tf.TensorSpec]:
    """The name and specification of a signature's only input, a batch of images."""
    inputs = call.structured_input_signature[1]
    if len(inputs) == 1:
        ((name, spec),) = inputs.items()
        takes_images = spec.shape.rank is None or (spec.shape.rank == 4 and spec.shape[3] == 3)
        if takes_images and (spec.dtype == tf.uint8 or spec.dtype.is_floating):
            return name, spec
    raise UserError(
        f"--saved_model_signature: expected {signature!r} of {path!r} to take one batch of images "
        "[b, H, W, 3], uint8 or float. Received: "
        f"{', '.join(map(str, inputs.values())) or 'no input'}; name another signature."
    )


def _fit(images: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    if spec.shape.rank and spec.shape[1] and spec.shape[2]:
        size = [spec.shape[1], spec.shape[2]]
        if images.shape[1:3].as_list() != size:
            resized = tf.image.resize(images, size, antialias=True)
            images = tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
    return images if spec.dtype == tf.uint8 else tf.cast(images, spec.dtype) / 255
