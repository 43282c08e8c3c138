"""The cost of false negative removal, in the loss and in a whole training step.

    python -m benchmarks.loss --json -

The masked loss over three levels against plain InfoNCE of the same anchors and queue, forward and
backward, as `ContrastiveModel.contrastive_loss` computes both; then the step of ResNet-18 on
CIFAR-10's size with detection and without.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import main as entry
from benchmarks import rows
from benchmarks.memory import peak_growth
from benchmarks.rows import Row, in_turn, row, seconds
from ifnd_tf.config import treatments
from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.treatments import rules
from ifnd_tf.stages import build

SIZES = ((256, 4096), (256, 65536))
_SIMCLR = (512, 512)  # two views of 256 images: anchors, and candidates
_LEVELS, _WIDTH, _EXAMPLES, _TEMPERATURE = 3, 128, 50_000, 0.2


# Treatments of the false negatives and the names of their rows.
_SETTINGS = {
    "mask": LossSettings(_TEMPERATURE),
    "rescaled mask": LossSettings(_TEMPERATURE, rescale_negatives=True),
    "union's mask": LossSettings(_TEMPERATURE, level_combination="union"),
    "attraction": LossSettings(_TEMPERATURE, rules=rules("attract")),
    "hcsc": LossSettings(_TEMPERATURE, rules=rules("hcsc")),
}
# The others of `--treatment`, without labels, half way through a run of two epochs.
_OTHERS = {
    name: LossSettings(_TEMPERATURE, rules=rules(name), epochs=2)
    for name in treatments.names()
    if name not in ("none", "eliminate", "attract", "hcsc")
}


def loss(batch: int, queue: int, treatment: str) -> Callable[[], Any]:
    """A compiled loss and its gradient by the anchors, of random unit vectors.

    Args:
        batch: B.
        queue: M.
        treatment: of `_SETTINGS` or `_OTHERS`, or "plain": without labels.
    """
    random = np.random.default_rng(0)

    def unit(count: int) -> tf.Tensor:
        return tf.math.l2_normalize(tf.constant(random.normal(size=(count, _WIDTH)), tf.float32), 1)

    anchors, keys, negatives = unit(batch), unit(batch), unit(queue)
    index, queued = (
        tf.constant(random.integers(0, _EXAMPLES, count), tf.int32) for count in (batch, queue)
    )
    # As half way through a run: half of the labels are accepted, of 50, 100 and 200 clusters.
    labels = np.stack([random.integers(0, k, _EXAMPLES) for k in (50, 100, 200)])
    labels = tf.constant(np.where(random.random(labels.shape) < 0.5, labels, -1), tf.int32)
    confidence = tf.constant(random.random(labels.shape), tf.float32)

    @tf.function
    def step(anchors: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(anchors)
            positive = tf.reduce_sum(anchors * keys, axis=-1) / _TEMPERATURE
            logits = tf.matmul(anchors, negatives, transpose_b=True) / _TEMPERATURE
            known = labels if treatment in _SETTINGS else labels[:0]
            indices = index, queued
            of_each = tuple(tf.gather(known, rows, axis=1) for rows in indices)
            settings = (_SETTINGS | _OTHERS).get(treatment, LossSettings())
            similar = None
            vectors = (keys, negatives) if settings.needs("embeddings") else ()
            if settings.needs("key_similarities"):
                similar = tf.matmul(keys, negatives, transpose_b=True)
            state = {
                name: tf.fill([batch, *rule.state_shape(_WIDTH)], first)
                for rule in settings.rules
                for name, first in rule.state.items()
            }
            inputs = RuleInputs(state, similar, vectors, tf.gather(confidence, queued, axis=1), 1)
            found = label_info_nce(
                positive, logits, queued >= 0, indices, of_each, settings, inputs
            )
            total = tf.reduce_mean(found.per_anchor)
        return tape.gradient(total, anchors)

    return lambda: step(anchors).numpy()


def step(detector: str, batch: int) -> Callable[[], Any]:
    """A compiled training step of ResNet-18 at 32 pixels on a random batch."""
    config = entry.parse(
        [
            "--flagfile=experiments/cifar10.flags",
            "--dataset=digits",
            f"--detector={detector}",
            f"--batch_size={batch}",
            "--num_clusters=50,100,200",
        ]
    )
    assert config is not None
    model = build.model(config, tf.distribute.get_strategy(), num_examples=_EXAMPLES)
    random = np.random.default_rng(0)
    size = config.image_size
    data = {
        "index": tf.range(batch),
        "images": tf.constant(random.integers(0, 256, (batch, 2, size, size, 3)), tf.uint8),
        "draws": tf.constant(random.random((batch, 2, 8)), tf.float32),
    }
    if model.pseudo_labels is not None:
        labels = random.integers(-1, 50, model.pseudo_labels.shape)
        model.pseudo_labels.assign(labels)
    model.queue_index.assign(random.integers(0, _EXAMPLES, model.queue_index.shape))
    train = tf.function(model.train_step)
    return lambda: train(data)["loss"].numpy()


def measure(rounds: int, batch: int) -> Iterator[Row]:
    """All rows."""
    of_a_batch = [kind for kind in _OTHERS if "batch" in treatments.declared(kind).needs]
    of_a_queue = [kind for kind in (*_SETTINGS, *_OTHERS) if kind not in of_a_batch]
    more: dict[str, float] = {}  # seconds beyond those of the plain loss
    for sizes, kinds in ((SIZES[0], of_a_queue), (SIZES[1], of_a_queue), (_SIMCLR, of_a_batch)):
        name = f"B = {sizes[0]}, {'M' if sizes is _SIMCLR else 'Q'} = {sizes[1]}, L = {_LEVELS}"
        contenders = {kind: loss(*sizes, kind) for kind in (*kinds, "plain")}
        times = in_turn(
            {kind: lambda run=run: seconds(run) for kind, run in contenders.items()},  # type: ignore[misc]
            rounds,
        )
        for kind in kinds:
            yield row(name, f"cost of the {kind}, s", times[kind], times["plain"], "plain InfoNCE")
            if sizes is not SIZES[1]:
                more[kind] = float(np.median(times[kind]) - np.median(times["plain"]))
        if sizes is _SIMCLR:
            continue
        own, plain = (
            [peak_growth("benchmarks.loss", "loss", (8, 64, kind), (*sizes, kind))]
            for kind in ("mask", "plain")
        )
        yield row(name, "cost of the mask, MB", own, plain, "plain InfoNCE")
    steps = {detector: step(detector, batch) for detector in ("ifnd", "none")}
    times = in_turn(
        {kind: lambda run=run: seconds(run) for kind, run in steps.items()},  # type: ignore[misc]
        max(3, rounds // 2),
    )
    name = f"ResNet-18, 32 px, batch {batch}"
    yield row(name, "cost of detection, s a step", times["ifnd"], times["none"], "no detection")
    for kind, cost in more.items():
        taken = [cost + float(np.median(times["none"]))]
        yield row(name, f"the step and what {kind} adds, s", taken, times["none"], "no detection")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds of the loss")
    parser.add_argument("--batch", type=int, default=256, help="images of the whole step")
    rows.run("loss", parser, measure)


if __name__ == "__main__":
    main()
