"""Fine-tuning the exported SavedModel in plain Keras, on labelled images of your own.

    python -m examples.finetune runs/digits

The SavedModel becomes a layer: uint8 RGB images of any size in, features out, weights that train
with the rest. Batch normalisation keeps its running statistics, as is usual with few labels.
Nothing of ifnd_tf is imported.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits


class SavedEncoder(keras.layers.Layer):
    """A SavedModel's features as a layer that trains.

    `keras.layers.TFSMLayer` would do, but for the names that it gives to weights: with ':' in
    them, which optimizers refuse (Keras 3.15).
    """

    def __init__(self, path: str):
        super().__init__()
        self.saved = tf.saved_model.load(path)
        # These hold the SavedModel's own variables, not copies.
        self.kernels = [
            keras.Variable(variable, name=f"weight_{number}")
            for number, variable in enumerate(self.saved.trainable_variables)
        ]

    def call(self, images):
        return self.saved.serving_default(images)["features"]


def main(workdir: str, epochs: int = 5) -> float:
    """Trains encoder and head together; returns the accuracy on a fifth of the digits."""
    digits = load_digits()
    images = np.minimum(digits.images * 16, 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    inputs = keras.Input([None, None, 3], dtype="uint8")
    outputs = keras.layers.Dense(10)(SavedEncoder(f"{workdir}/saved_model")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    cut = len(images) * 4 // 5
    model.fit(images[:cut], digits.target[:cut], epochs=epochs, batch_size=64, verbose=2)
    return model.evaluate(images[cut:], digits.target[cut:], verbose=0)[1]


if __name__ == "__main__":
    print(f"accuracy {main(sys.argv[1]):.1%}")
