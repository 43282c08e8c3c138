"""Training steps that must fail the TPU check; run where tensorflow-tpu is installed.

    python -m tests.benchmarks.negative_controls DIRECTORY

Writes controls.json: for each control, why it cannot be lowered ("" if it can).
"""

import json
import sys
from pathlib import Path

from benchmarks.tpu import programs, trace  # first: they set up TensorFlow's environment

import tensorflow as tf  # isort: skip

from ifnd_tf import building

FLAGS = [
    "--backbone=resnet_small", "--stem=cifar", "--width=1", "--image_size=8",
    "--queue_size=64", "--num_clusters=3,5", "--projection_dim=8",
]  # fmt: skip


def printing(model, data):
    tf.print("indices", data["index"])
    return data


def bicubic(model, data):
    images = data["images"]
    flat = tf.reshape(images, [-1, *images.shape[2:]])
    resized = tf.image.resize(flat, images.shape[2:4], method="bicubic")
    return data | {"images": tf.reshape(tf.cast(resized, tf.uint8), images.shape)}


def data_dependent_shape(model, data):
    known = tf.boolean_mask(data["index"], data["index"] > 0)
    model.queue_end.assign_add(tf.reduce_sum(known) * 0)
    return data


CONTROLS = {
    "untouched": lambda model, data: data,
    "tf.print": printing,
    "bicubic": bicubic,
    "data-dependent shape": data_dependent_shape,
}


def main(directory: Path) -> None:
    strategy = trace.pretend_strategy(2)
    config = programs.configuration("experiments/imagenet_tpu.flags", FLAGS, 4, 2)
    build = building.build
    found = {}
    for name, spoil in CONTROLS.items():

        def spoiled(*args, _spoil=spoil, **kwargs):
            model = build(*args, **kwargs)
            step = model.train_step
            model.train_step = lambda data: step(_spoil(model, data))
            return model

        building.build = spoiled
        traced = programs.training_step(config, strategy, 100)
        found[name] = programs.write(traced, str(directory / "control.mlir"))["error"]
    (directory / "controls.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
