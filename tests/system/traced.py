"""Steps that must fail the TPU check, and what else only a TPU's strategy traces.

    python -m tests.system.traced DIRECTORY

Run where tensorflow-tpu is installed. Writes traced.json: `errors`, for each step why it
cannot be lowered ("" if it can); `loop` and `last`, how many ops of each type the steps before
the last one of a call hold, and the last. And losses.mlir, the loss with each rule of
`--treatment` and with `--teacher`, all in one program.
"""

import collections
import dataclasses
import json
import sys
from pathlib import Path

from tests.system.tpu import programs, trace  # first: they set up TensorFlow's environment

import tensorflow as tf  # isort: skip

from ifnd_tf.config.treatments import names
from ifnd_tf.distribute.replicas import traced_for_accelerator
from ifnd_tf.evaluation.embed import Embedder
from ifnd_tf.export import saved_model
from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.teacher import DTYPE, Teacher, similarities
from ifnd_tf.models.treatments import rules
from ifnd_tf.stages import build as building
from lowering import tpu

FLAGS = [
    "--backbone=resnet_tiny", "--stem=cifar", "--width=1", "--image_size=8",
    "--queue_size=64", "--num_clusters=3,5", "--projection_dim=8",
]  # fmt: skip
ROWS, REPLICAS, EXAMPLES = 4, 2, 100
EXPERIMENT = "experiments/imagenet_tpu.flags"
STEPS = {
    "untouched": [],
    "attract": ["--treatment=attract"],
    "fnc": ["--treatment=fnc"],
    "simclr": ["--framework=simclr", "--batch_norm=sync"],
    "keys": ["--detect_with=keys"],
}


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
    "tf.print": printing,
    "bicubic": bicubic,
    "data-dependent shape": data_dependent_shape,
}


def lowered(traced, directory):
    """Why it cannot be lowered, "" if it can."""
    return programs.write(traced, str(directory / "module.mlir"))["error"]


def controls(config, strategy, directory):
    """Why a step of nothing but one such operation cannot be lowered."""
    build, found = building.model, {}
    for name, spoil in CONTROLS.items():

        def spoiled(*args, _spoil=spoil, **kwargs):
            model = build(*args, **kwargs)
            model.train_step = lambda data: tf.cast(
                _spoil(model, data)["images"][0, 0, 0], "float32"
            )
            return model

        building.model = spoiled
        found[name] = lowered(programs.training_step(config, strategy, EXAMPLES), directory)
    building.model = build
    return found


def evaluation(config, strategy, directory):
    """The step that embeds for evaluation; exports the model besides."""
    model = building.model(config, strategy, num_examples=EXAMPLES)
    embedder = Embedder(model.network.inference, strategy)
    images = tf.zeros([ROWS, config.image_size, config.image_size, 3], tf.uint8)
    values = strategy.experimental_distribute_values_from_function(lambda _: tf.identity(images))
    error = lowered(programs.Traced(embedder._step.get_concrete_function(values)), directory)
    saved_model.export(str(directory / "saved_model"), model.network, config.image_size)
    return error


def on_tpu(graph):
    """How many ops of each type run on the TPU."""
    return collections.Counter(
        op.type for op in graph.get_operations() if "_tpu_replicate" in op.node_def.attr
    )


def several_steps(config, strategy):
    """Ops of the loop's body and of the step after it, when a call makes three steps."""
    config = dataclasses.replace(config, steps_per_execution=3)
    graph = programs.training_step(config, strategy, EXAMPLES).function.graph
    (loop,) = (op for op in graph.get_operations() if op.type in ("While", "StatelessWhile"))
    body = graph._get_function(loop.get_attr("body").name).graph
    return on_tpu(body), on_tpu(graph)


def losses() -> str:
    """StableHLO of the loss, its gradient and its state with each rule, some beside a teacher."""
    batch, queue, width, levels = 16, 64, 8, 2
    # A rule without targets of its own and one with, and both kinds of a weight.
    taught = {"eliminate": Teacher(width), "sce": Teacher(width, schedule="cosine")}
    each = [*((name, None) for name in names()), *taught.items()]

    def step(anchors, keys, queued, confidence, own, others, own_labels, other_labels, epoch):
        index, labels, found = (own, others), (own_labels, other_labels), []
        for name, teacher in each:
            settings = LossSettings(0.2, rules(name), epochs=10, teacher=teacher)
            (rule,) = settings.rules
            state = {
                name: tf.fill([batch, *rule.state_shape(width)], first)
                for name, first in rule.state.items()
            }
            with tf.GradientTape() as tape:
                tape.watch(anchors)
                positive = tf.reduce_sum(anchors * keys, axis=1) / settings.temperature
                logits = tf.matmul(anchors, queued, transpose_b=True) / settings.temperature
                cosines = tf.matmul(keys, queued, transpose_b=True)
                given = similarities(*(tf.cast(x, DTYPE) for x in (keys, queued)))
                inputs = RuleInputs(
                    state, cosines, (keys, queued), confidence, epoch, given if teacher else None
                )
                loss = label_info_nce.python_function(
                    positive, logits, index[1] >= 0, index, labels, settings, inputs, index
                )
            found.append((tape.gradient(loss.per_anchor, anchors), loss))
        return tf.nest.flatten(found)

    floats = [batch, width], [batch, width], [queue, width], [levels, queue]
    integers = [batch], [queue], [levels, batch], [levels, queue], []
    arguments = [tf.TensorSpec(shape, tf.float32) for shape in floats]
    arguments += [tf.TensorSpec(shape, tf.int32) for shape in integers]
    with traced_for_accelerator():
        compiled = tf.function(step, jit_compile=True, autograph=False)
        lower = compiled.experimental_get_compiler_ir(*arguments)
        return tpu.parseable(lower(stage="stablehlo", platform_name="TPU"))


def main(directory: Path) -> None:
    strategy = trace.pretend_strategy(REPLICAS)
    config = programs.configuration(EXPERIMENT, FLAGS, ROWS, REPLICAS)
    errors = controls(config, strategy, directory)
    for name, flags in STEPS.items():
        other = programs.configuration(EXPERIMENT, [*FLAGS, *flags], ROWS, REPLICAS)
        errors[name] = lowered(programs.training_step(other, strategy, EXAMPLES), directory)
    errors["evaluation"] = evaluation(config, strategy, directory)
    (directory / "losses.mlir").write_text(losses())
    loop, last = several_steps(config, strategy)
    (directory / "traced.json").write_text(
        json.dumps({"errors": errors, "loop": loop, "last": last})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
