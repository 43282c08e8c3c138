"""Fine-tuning the exported encoder in plain Keras, on labelled images of your own.

    python -m examples.finetune runs/digits

The encoder is `encoder.keras`: stock layers, RGB images of 0 to 255 in, features out. Nothing of
ifnd_tf is imported.
"""

import sys

import keras
import numpy as np
from sklearn.datasets import load_digits


def main(workdir: str, epochs: int = 5) -> float:
    """Trains encoder and head together; returns the accuracy on a fifth of the digits."""
    encoder = keras.models.load_model(f"{workdir}/encoder.keras")
    digits = load_digits()
    size = encoder.input_shape[1]
    images = np.repeat(np.minimum(digits.images * 16, 255)[..., None], 3, axis=-1)
    images = keras.ops.convert_to_numpy(keras.ops.image.resize(images, [size, size]))
    outputs = keras.layers.Dense(10)(encoder.output)
    model = keras.Model(encoder.input, outputs)
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
