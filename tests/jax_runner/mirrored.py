"""A tiny run by main.py's own training under MirroredStrategy, and what became of it.

    python -m tests.jax_runner.mirrored REPLICAS FOLDER OVERRIDES.json

Writes FOLDER/mirrored.npz: `losses`, the running mean loss of each epoch after each step, and
`weights_0`, ... of the query network, and `kept` keys [N, D]; the run directory is FOLDER/mirrored.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.stages import train as training
from tests import tiny

# At the digits' own learning rate what float32 rounds differently soon grows.
SETTINGS = {
    "learning_rate": 0.001,
    "batch_size": 64,
    "queue_size": 128,
    "batch_norm": "auto",  # moves keys between the replicas
    "num_clusters": "10",
    "epochs": 4,
    "warmup_epochs": 2,
    "acceptance_end": 1.0,
    "protocols": "knn",
    "checkpoint_minutes": 0.0,
}


def config(overrides: dict) -> Config:
    """Settings of the run: 24 steps, the labels are refreshed before the 13th and the 19th."""
    return tiny.config(**{**SETTINGS, **overrides})


def splits() -> Splits:
    """Its images: the last 15 do not fill a batch, and no number of devices divides them."""
    return tiny.splits(6 * 64 + 15)


class _Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(float(logs["loss"]))


def main(replicas: int, folder: Path, overrides: dict) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    losses, fit = _Losses(), training.fit

    def with_losses(*arguments, callbacks, **options):
        fit(*arguments, callbacks=[*callbacks, losses], **options)

    training.fit = with_losses
    model, _ = tiny.train(config(overrides), strategy, folder / "mirrored", splits())
    weights = [variable.numpy() for part in model.network for variable in part.variables]
    arrays = {f"weights_{number}": value for number, value in enumerate(weights)}
    if model.memory is not None:
        arrays["kept"] = model.memory.numpy()
    np.savez(folder / "mirrored.npz", losses=losses.means, **arrays)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
