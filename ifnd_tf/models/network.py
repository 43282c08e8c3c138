"""An encoder with its projector, and the normalisation of the images that enter them."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from ifnd_tf.data.photometric import normalise


class Network(NamedTuple):
    """An encoder with its projector, both functional models.

    `features` and `inference` take pixels; `outputs` and `embed` take views that augmentation has
    normalised already.

    Attributes:
        encoder: normalised images [b, S, S, 3] -> features [b, F].
        projector: features [b, F] -> float32 [b, D], not normalised.
    """

    encoder: keras.Model
    projector: keras.Model

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """The encoder's features float32 [b, F] of images [b, S, S, 3] in 0 to 255."""
        # Networks of keras.applications pool in the precision of the encoder.
        return tf.cast(self.encoder(normalise(images), training=False), tf.float32)

    def inference(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Float32 "features" [b, F] and unit vectors "embedding" [b, D] of images in 0 to 255."""
        features, embedding = self.outputs(normalise(images))
        return {"features": tf.cast(features, tf.float32), "embedding": embedding}

    def outputs(self, views: tf.Tensor, *, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoder's features [b, F] of normalised views, and unit vectors, float32 [b, D]."""
        features = self.encoder(views, training=training)
        projected = self.projector(features, training=training)
        return features, tf.math.l2_normalize(projected, axis=-1)

    def embed(self, views: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """Unit vectors, float32 [b, D], of normalised views."""
        return self.outputs(views, training=training)[1]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return self.encoder.trainable_variables + self.projector.trainable_variables


def projector(feature_dim: int, hidden_dim: int, projection_dim: int) -> keras.Model:
    """Two-layer perceptron (SimCLR, MoCo v2): Dense, ReLU, Dense.

    Args:
        feature_dim: width F of the encoder's features.
        hidden_dim: width of the hidden layer; 0 means F, as in MoCo v2.
        projection_dim: width D of the output.

    Returns:
        A model from [b, F] to float32 [b, D], not normalised. The last layer computes in
        float32 whatever the precision of the encoder: cosine similarities divided by a
        temperature of 0.1 have no digits to spare.
    """
    return keras.Sequential(
        [
            keras.Input((feature_dim,)),
            keras.layers.Dense(hidden_dim or feature_dim, activation="relu", name="hidden"),
            keras.layers.Dense(projection_dim, dtype="float32", name="projection"),
        ],
        name="projector",
    )


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers built within get this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
