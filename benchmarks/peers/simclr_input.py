"""google-research/simclr's input pipeline, its own files run as published, over a folder of JPEGs.

Needs a clone of https://github.com/google-research/simclr and TensorFlow, so it runs in our own
environment, driven by benchmarks.input. What stands for TensorFlow Datasets is a builder that
reads the folder: simclr's `build_input_fn` decodes, shuffles, augments and batches as ever.
"""

import os
import pathlib
import sys
import time
import types
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from absl import flags

from benchmarks.peers.serving import serve

_state: dict[str, Any] = {}


class _Folder:
    """As much of a TensorFlow Datasets builder as simclr uses: JPEGs of one class."""

    info = types.SimpleNamespace(features={"label": types.SimpleNamespace(num_classes=1)})

    def __init__(self, folder: str):
        self._paths = sorted(str(path) for path in pathlib.Path(folder).glob("*.jpg"))

    def as_dataset(self, **_: Any) -> tf.data.Dataset:
        def read(path: tf.Tensor) -> tuple[tf.Tensor, int]:
            # As TensorFlow Datasets decodes an image.
            return tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False), 0

        return tf.data.Dataset.from_tensor_slices(self._paths).map(read)


def build(folder: str, simclr: str, size: int, strength: float, blur: bool, batch: int) -> None:
    """Prepares the pipeline; with `blur` simclr's blur, which it runs on the device, follows."""
    sys.path.insert(0, simclr)
    import data
    import data_util

    if not flags.FLAGS.is_parsed():
        for name in ("train_mode", "train_split", "eval_split"):
            flags.DEFINE_string(name, "", "")
        flags.DEFINE_boolean("cache_dataset", False, "")
        flags.DEFINE_integer("image_size", 0, "")
        flags.DEFINE_float("color_jitter_strength", 0.0, "")
        flags.FLAGS(["simclr"])
    flags.FLAGS.train_mode = "pretrain"
    flags.FLAGS.image_size, flags.FLAGS.color_jitter_strength = size, strength
    made = data.build_input_fn(_Folder(folder), batch, None, True)(tf.distribute.InputContext())

    def blurred(images: tf.Tensor, label: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        return data_util.batch_random_blur(tf.split(images, 2, -1), size, size), label

    _state.update(dataset=made.map(blurred) if blur else made)


def seconds(batches: int) -> float:
    """Seconds of so many batches of a fresh pass, after its first."""
    iterator = iter(_state["dataset"])
    next(iterator)
    begin = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return time.perf_counter() - begin


if __name__ == "__main__":
    serve(build, seconds)
