"""What a run would meet, before it starts, and the flags to change.

Writes `check/views.png` to the run directory and does not occupy it.
"""

import math

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.data.statistics import image_statistics
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report.view_pairs import view_pairs
from ifnd_tf.run import machine
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress, duration
from ifnd_tf.stages import build, check_cost
from ifnd_tf.stages.check_findings import Findings

# A step that waits for its input for more than this share of its time does not keep up.
_INPUT_SHARE = 0.9
# The share of what is free that a run may plan to fill.
_FILL = 0.9
_GIB, _MIB = 1 << 30, 1 << 20
_PAIRS = 16
# Beyond that a run on a CPU is no longer something to wait for.
_LONG_HOURS = 12


def check(
    config: Config,
    strategy: tf.distribute.Strategy,
    splits: Splits,
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Looks at the data, the sizes, the machine and 20 training steps.

    Args:
        config: the run's settings.
        strategy: where it would train.
        splits: the data, opened and scanned.
        run: the run directory.
        progress: where to say it.

    Raises:
        UserError: if something must be changed, after the list of it.
    """
    checked = Findings(progress)
    _data(checked, config, splits)
    _sizes(checked, config, strategy, splits.train)
    if not checked.changes:
        _machine(checked, config, strategy, splits.train, run, progress)
    checked.conclude()


def _data(checked: Findings, config: Config, splits: Splits) -> None:
    for name, source in zip(("training", "evaluation"), splits, strict=True):
        checked.found(name, _contents(source) if source is not None else "no images")
    train = splits.train
    counts = _class_counts(train)
    if not counts.size:
        checked.advice.append(
            "the images have no labels, so nothing is evaluated; for numbers, put them into class "
            "folders or name them in --dataset=list:FILE"
        )
    elif counts.max() > 10 * counts.min():
        checked.advice.append(
            f"the largest class has {counts.max() / counts.min():.0f} times the images of the "
            "smallest; --acceptance_scope=cluster takes labels from every cluster alike"
        )
    found = image_statistics(train)
    order = np.argsort(found.heights * found.widths, kind="stable")[[0, len(found.widths) // 2, -1]]
    sizes = [f"{found.widths[i]}x{found.heights[i]}" for i in order]
    checked.found(
        "images",
        f"{sizes[0]} pixels" + (f" to {sizes[2]}, median {sizes[1]}" if len(set(sizes)) > 1 else "")
        + f"; brightness {found.mean.mean():.2f} +- {found.spread.mean():.2f}"
        + (f", {found.gray_share:.0%} grey" if found.gray_share else ""),
    )  # fmt: skip
    if found.copies:
        checked.advice.append(
            f"{found.copies} of {len(found.widths)} sampled images are copies of others; "
            "--mode=embed lists them after training"
        )
    short = float(np.median(np.minimum(found.heights, found.widths)))
    lost = short >= 4 * config.image_size
    if lost or max(32, 2 * short) <= config.image_size - 1:
        wanted = f"--image_size={min(224, 32 * max(1, round(short / (64 if lost else 32))))}"
        checked.advice.append(
            f"views are {config.image_size} pixels wide and the images {short:.0f}, so "
            + (f"detail is lost: {wanted}" if lost else f"time is: {wanted} --stem=stride2")
        )
    if config.augmentation == "digits" and config.dataset != "digits":
        checked.advice.append(
            "--augmentation=digits is for handwritten digits: --augmentation=moco_v2, or begin "
            "with --flagfile=experiments/photos.flags"
        )


def _contents(source: Source) -> str:
    bad, counts = len(source.unreadable), _class_counts(source)
    text = f"{source.num_examples:,} images of {source.name}, "
    text += f"{bad} ({bad / source.num_examples:.1%}) unreadable, "
    if not source.scanned:
        text = f"{source.num_examples:,} images of {source.name}, not scanned, "
    if not counts.size:
        return text + "without labels"
    return text + f"{counts.size} classes of {counts.min():,} to {counts.max():,} images"


def _class_counts(source: Source) -> np.ndarray:
    labels = source.labels[source.labels >= 0]
    return np.unique(labels, return_counts=True)[1]


def _sizes(
    checked: Findings, config: Config, strategy: tf.distribute.Strategy, source: Source
) -> None:
    checked.attempt(build.replica_batch, config, strategy)
    checked.attempt(build.check_sizes, config, source)
    checked.attempt(build.num_clusters, config, source.num_examples)
    if not checked.changes:  # It needs a batch that the replicas divide.
        checked.attempt(build.batch_norm_policy, config, strategy)
    if config.detector in ("ifnd", "random") and config.warmup_epochs >= config.epochs:
        checked.changes.append(
            f"--warmup_epochs: expected fewer than --epochs={config.epochs}, or nothing is ever "
            f"detected. Received: {config.warmup_epochs}; try {config.epochs // 10}."
        )


def _machine(
    checked: Findings,
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    run: RunDirectory,
    progress: Progress,
) -> None:
    rows = build.replica_batch(config, strategy)
    steps = build.check_sizes(config, source)
    room = machine.accelerator_memory() or machine.free_memory()
    model = build.build(config, strategy, num_examples=source.num_examples, steps_per_epoch=steps)
    needed = check_cost.needed_bytes(config, model, rows)
    _disk(checked, config, source, model, run)
    if needed > _FILL * room:
        checked.found("memory", f"a step needs about {needed / _GIB:.1f} GiB of {room / _GIB:.1f}")
        checked.changes.append(_smaller_batch(config, model, rows, room))
        return
    with progress.phase("trying 20 steps"):
        try:
            tried = check_cost.try_steps(config, strategy, model, source)
        except tf.errors.ResourceExhaustedError:
            checked.changes.append(_smaller_batch(config, model, rows, room))
            return
    checked.found(
        "memory",
        f"a step needs about {needed / _MIB:,.0f} MiB a device of {room / _MIB:,.0f} free; "
        f"measured, all included: at most {tried.peak_bytes / _MIB:,.0f}",
    )
    _speed(checked, config, source, steps, tried)
    path = _picture(run, tried.views)
    checked.found("views", path)


def _smaller_batch(config: Config, model: ContrastiveModel, rows: int, room: int) -> str:
    needed, less = (check_cost.needed_bytes(config, model, n) for n in (rows, rows - 1))
    each = needed - less
    # Of what is left when everything but the images has its place; at most half of what failed.
    most = min((_FILL * room - needed + rows * each) / each, rows / 2)
    smaller = f"--batch_size={config.batch_size // rows << int(math.log2(most))}, or " * (most >= 2)
    return (
        f"--batch_size: expected a step that fits {room / _GIB:.1f} GiB of memory. Received: "
        f"{config.batch_size}, which needs about {needed / _GIB:.1f} GiB a device; try {smaller}"
        "a smaller --image_size or --backbone."
    )


def _disk(
    checked: Findings, config: Config, source: Source, model: ContrastiveModel, run: RunDirectory
) -> None:
    levels = len(build.num_clusters(config, source.num_examples))
    refreshes = max(0, config.epochs - config.warmup_epochs) // config.refresh_epochs
    # Two checkpoints and one that is being written, the exported encoder, and for each refresh
    # a label of 4 bytes and a confidence of 2 for every example, before they are packed.
    needed = 4 * check_cost.variable_bytes(model) + 6 * levels * source.num_examples * refreshes
    free = machine.free_disk(run.path)
    checked.found(
        "disk",
        f"at most {needed / _MIB:,.0f} MiB"
        + (f" of {free / _GIB:,.1f} GiB free in {run.path}" if free is not None else ""),
    )
    if free is not None and needed > _FILL * free:
        checked.changes.append(
            f"--workdir: expected a disk with {needed / _GIB:.1f} GiB free. Received: {run.path!r} "
            f"with {free / _GIB:.1f}; choose another, or a greater --refresh_epochs."
        )


def _speed(
    checked: Findings, config: Config, source: Source, steps: int, tried: check_cost.Trial
) -> None:
    rate = config.batch_size / tried.step_seconds
    epoch = steps * tried.step_seconds
    embedding = len(source.readable) / config.batch_size * tried.embed_seconds
    refreshes = 0
    if config.detector in ("ifnd", "random"):
        refreshes = max(0, config.epochs - config.warmup_epochs) // config.refresh_epochs
    total = config.epochs * epoch + refreshes * embedding + tried.compile_seconds
    hours = total / 3600
    checked.found(
        "speed",
        f"{rate:,.0f} images/s: an epoch of {steps} steps takes {duration(epoch)}, a refresh's "
        f"embedding {duration(embedding)}, {config.epochs} epochs about "
        f"{duration(total)}",
    )
    if hours > _LONG_HOURS and not machine.accelerator_memory():
        checked.advice.append(
            f"that takes {hours:,.0f} hours on this machine without a GPU; a smaller network is "
            "--backbone=resnet_small --width=32 --stem=stride2 --image_size=64"
        )
    share = tried.input_seconds / tried.step_seconds
    keeps_up = share < _INPUT_SHARE
    checked.found(
        "input",
        f"{config.batch_size / tried.input_seconds:,.0f} images/s alone: "
        + ("keeps up" if keeps_up else "the device waits for it"),
    )
    if not keeps_up:
        checked.advice.append(
            "making a batch takes as long as training on it: store the images smaller (their "
            f"short side about {2 * config.image_size} pixels), all of one size within "
            "--cache_megabytes, or use a machine with more cores"
        )


def _picture(run: RunDirectory, pairs: np.ndarray) -> str:
    """Writes up to 16 pairs of views, four a row, as the model sees them."""
    path = run.file("check", "views.png")
    if run.writer:
        tf.io.gfile.makedirs(run.file("check"))
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(tf.io.encode_png(view_pairs(pairs[:_PAIRS])).numpy())
    return path
