"""Incremental false negative detection in a Keras model of your own.

The model below is not ours: its own encoder, its own views, its own train_step. Two things are
added to it: the masked loss, and the variable `pseudo_labels` that the callback writes.

    python -m examples.own_model
"""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import ifnd_tf

TEMPERATURE = 0.2


class OwnModel(keras.Model):
    """A small SimCLR: negatives are the other images of the batch."""

    def __init__(self, num_examples: int, num_levels: int, width: int = 32):
        super().__init__()
        self.encoder = keras.Sequential(
            [
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.Conv2D(64, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(width),
            ]
        )
        # Added for detection: the label of each example at each level, -1 for none.
        self.pseudo_labels = self.add_weight(
            shape=(num_levels, num_examples),
            dtype="int32",
            initializer=keras.initializers.Constant(-1),
            trainable=False,
            name="pseudo_labels",
        )

    def call(self, images):
        return tf.math.l2_normalize(self.encoder(images), axis=-1)

    def view(self, images):
        noise = tf.random.normal(tf.shape(images), stddev=0.2)
        return tf.image.random_crop(images + noise, [tf.shape(images)[0], 7, 7, 1])

    def train_step(self, data):
        index, images = data
        with tf.GradientTape() as tape:
            anchors, others = self(self.view(images)), self(self.view(images))
            logits = tf.matmul(anchors, others, transpose_b=True) / TEMPERATURE
            labels = tf.gather(self.pseudo_labels.value, index, axis=1)
            # Added for detection: the same loss as before, without the false negatives.
            loss = ifnd_tf.masked_info_nce(
                tf.linalg.diag_part(logits),
                logits,
                valid=index[:, None] != index[None, :],
                false_negative=ifnd_tf.false_negatives(labels, labels),
            )
            mean = tf.reduce_mean(loss.per_anchor)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(mean, variables), variables)
        return {"loss": mean, "masked_share": loss.masked_share}


def main(epochs: int = 10) -> keras.callbacks.History:
    """Trains on the digits and returns Keras' history, with what was detected."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    model = OwnModel(len(images), num_levels=2)
    model(images[:1, :7, :7])
    model.compile(keras.optimizers.Adam(1e-3))
    detection = ifnd_tf.IncrementalDetection(
        ifnd_tf.array_detector(
            lambda rows: model.encoder(rows[:, :7, :7]), images, width=32, num_clusters=[10, 20]
        ),
        true_labels=digits.target,  # only for the statistics
        warmup_epochs=2,
        epochs=epochs,
    )
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(images), dtype=np.int32), images))
    data = data.shuffle(len(images), seed=0).batch(128, drop_remainder=True)
    return model.fit(data, epochs=epochs, callbacks=[detection], shuffle=False, verbose=2)


if __name__ == "__main__":
    main()
