"""`--mode=check`: looks at data, sizes and machine before a run, and names the flags to change.

Writes `check/views.png` to the run directory and does not occupy it.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.data.statistics import image_statistics
from ifnd_tf.distribute import strategies
from ifnd_tf.errors import UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report.view_pairs import view_pairs
from ifnd_tf.run import machine
from ifnd_tf.run.progress import Progress, duration
from ifnd_tf.run.words import counted
from ifnd_tf.stages import check_advice, check_cost, evaluate, given_rows, sizes
from ifnd_tf.stages.check_cost import FILL, GIB
from ifnd_tf.stages.run import Run

# Input that takes more than this share of a step's time does not keep up.
_INPUT_SHARE = 0.9
_MIB = 1 << 20
_PAIRS = 16
_LEVELS = {
    "range": "each is scaled by its own range (--sixteen_bits=high_byte divides by 256)",
    "high_byte": "they are divided by 256 (--sixteen_bits=range scales each by its own range)",
}


def check(run: Run) -> None:
    """Looks at the data, the sizes, the machine and 20 training steps.

    Raises:
        UserError: if something must be changed, after the list of it.
    """
    findings = Findings(run.progress)
    check_data(findings, run.config, run.splits)
    if run.decided:
        findings.found("auto", run.decided)
    widths = _sizes(findings, run)
    if not findings.changes:
        _machine(findings, run, widths.get("teacher", 0))
    findings.conclude()


class Findings:
    """Prints findings line by line, and collects required changes and advice."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self.changes: list[str] = []
        self.advice: list[str] = []

    def found(self, name: str, text: str) -> None:
        """Prints a finding."""
        self._progress.line(f"  {name:<12}{text}")

    def attempt(self, function: Callable, *args) -> Any:
        """The result of a function, or None where it raises `UserError`, whose message is kept."""
        try:
            return function(*args)
        except UserError as error:
            self.changes.append(str(error))
            return None

    def conclude(self) -> None:
        """The closing lines: ready, or what to change.

        Raises:
            UserError: if something must be changed.
        """
        for title, texts in (("to change", self.changes), ("to consider", self.advice)):
            if texts:
                self._progress.line(f"{title}:")
            for text in texts:
                self._progress.line(f"  - {text}")
        if self.changes:
            raise UserError(
                f"--mode=check: expected settings that fit. Received: {len(self.changes)} to "
                "change, listed above with their flags."
            )
        self._progress.line("ready; the same command without --mode=check trains")


def check_data(findings: Findings, config: Config, splits: Splits) -> None:
    """Number, labels and sizes of the images, and whether the views suit them."""
    for name, source in zip(("training", "evaluation"), splits, strict=True):
        findings.found(name, _contents(source) if source is not None else "no images")
    counts = _class_counts(splits.train)
    if not splits.train.labelled:
        findings.advice.append(
            "the images have no labels, so nothing is evaluated; for numbers, put them into class "
            "folders or name them in --dataset=list:FILE"
        )
    elif counts.size and counts.max() > 10 * counts.min():
        findings.advice.append(
            f"the largest class has {counts.max() / counts.min():.0f} times the images of the "
            "smallest; --acceptance_scope=cluster takes labels from every cluster alike"
        )
    found = image_statistics(splits.train)
    order = np.argsort(found.heights * found.widths, kind="stable")[[0, len(found.widths) // 2, -1]]
    shown = [f"{found.widths[i]}x{found.heights[i]}" for i in order]
    findings.found(
        "images",
        f"{shown[0]} pixels" + (f" to {shown[2]}, median {shown[1]}" if len(set(shown)) > 1 else "")
        + f"; brightness {found.mean.mean():.2f} +- {found.spread.mean():.2f}"
        + (f", {found.gray_share:.0%} grey" if found.gray_share else ""),
    )  # fmt: skip
    if found.copies:
        findings.advice.append(
            f"{found.copies} of {len(found.widths)} sampled images are copies of others; "
            "--mode=embed lists them after training"
        )
    if found.wide:
        wide = f"{found.wide} of {len(found.widths)} sampled images have more than 8 bits"
        findings.found("levels", f"{wide}; {_LEVELS[config.sixteen_bits]}")
    if found.plain:
        findings.advice.append(
            f"{found.plain} of {len(found.widths)} sampled images have next to no variance; look "
            "at the pictures of views. Transparent images are composited on "
            f"--background={config.background}"
        )
    short = float(np.median(np.minimum(found.heights, found.widths)))
    findings.advice.extend(check_advice.views(config, short))
    if config.augmentation == "digits" and config.dataset != "digits":
        findings.advice.append(
            "--augmentation=digits is for handwritten digits: --augmentation=moco_v2, or begin "
            "with --preset=photos"
        )


def _contents(source: Source) -> str:
    bad, counts = len(source.unreadable), _class_counts(source)
    read = (
        f"{bad} ({bad / source.num_examples:.1%}) unreadable" if source.scanned else "not scanned"
    )
    classes = "without labels"
    if not source.labels_known:
        known = counted(len(source.class_names), "class", "classes")
        classes = f"{known}, whose labels are read while training"
    elif counts.size:
        known = counted(counts.size, "class", "classes")
        classes = f"{known} of {counts.min():,} to {counts.max():,} images"
    return f"{counted(source.num_examples, 'image')} of {source.name}, {read}, {classes}"


def _class_counts(source: Source) -> np.ndarray:
    return np.unique(source.labels[source.labels >= 0], return_counts=True)[1]


def _sizes(findings: Findings, run: Run) -> dict[str, int]:
    """Batch, queue, clusters and given embeddings; returns these embeddings' widths by flag."""
    config, source = run.config, run.splits.train
    findings.attempt(sizes.replica_batch, config, run.strategy)
    findings.attempt(sizes.steps_per_epoch, config, source)
    findings.attempt(evaluate.check_protocols, run)
    if source.num_examples < 2:
        return {}
    findings.attempt(sizes.num_clusters, config, source.num_examples)
    given = findings.attempt(given_rows.check, run) or {}
    for path, seconds in {(getattr(config, flag), each.seconds) for flag, each in given.items()}:
        if seconds:
            findings.found("embeddings", f"by {path} about {duration(seconds)}, before training")
    if not findings.changes:  # the policy needs a batch that the replicas divide
        findings.attempt(sizes.batch_norm_policy, config, run.strategy)
    findings.attempt(sizes.require_detection, config)
    return {flag: each.width for flag, each in given.items()}


def _machine(findings: Findings, run: Run, teacher_width: int) -> None:
    config, source = run.config, run.splits.train
    rows = sizes.replica_batch(config, run.strategy)
    room = machine.accelerator_memory() or machine.free_memory()
    model = run.starting_model(teacher_width)
    needed = check_cost.needed_bytes(config, model, rows)
    _disk(findings, run, model)
    measured = None
    if not any(strategies.workers(run.strategy).any([needed > FILL * room])):
        too_large = contextlib.suppress(tf.errors.ResourceExhaustedError)
        with run.progress.phase("trying steps") as count, too_large:
            measured = check_cost.measure_steps(config, run.strategy, source, model, count)
    if measured is None:
        findings.found("memory", f"a step needs about {needed / GIB:.1f} GiB of {room / GIB:.1f}")
        findings.changes.append(check_cost.smaller_batch(config, model, rows, room))
        return
    findings.found(
        "memory",
        f"a step needs about {needed / _MIB:,.0f} MiB a device of {room / _MIB:,.0f} free; "
        f"measured, all included: at most {measured.peak_bytes / _MIB:,.0f} MiB",
    )
    check_speed(findings, config, source, run.steps_per_epoch, measured)
    findings.advice.extend(check_advice.training(config, len(source.readable), run.steps_per_epoch))
    findings.advice.extend(check_advice.hours(run, measured, teacher_width))
    picture = view_pairs(measured.views[:_PAIRS])  # as the model sees them, four pairs a row
    run.directory.write("check/views.png", tf.io.encode_png(picture).numpy())
    findings.found("views", run.directory.file("check/views.png"))


def _disk(findings: Findings, run: Run, model: ContrastiveModel) -> None:
    num_examples, path = run.splits.train.num_examples, run.directory.path
    labels = sizes.num_levels(run.config, num_examples) * num_examples
    # Two checkpoints and one that is being written, the exported encoder, and for each refresh
    # a label of 4 bytes and a confidence of 2 for every example, before they are packed.
    needed = 4 * check_cost.variable_bytes(model)
    needed += 6 * labels * check_cost.refreshes(run.config, num_examples)
    free = machine.free_disk(path)
    findings.found(
        "disk",
        f"at most {needed / _MIB:,.0f} MiB"
        + (f" of {free / GIB:,.1f} GiB free in {path}" if free is not None else ""),
    )
    if free is not None and needed > FILL * free:
        findings.changes.append(
            f"--workdir: expected a disk with {needed / GIB:.1f} GiB free. Received: {path!r} "
            f"with {free / GIB:.1f}; choose another, or a greater --refresh_epochs."
        )


def check_speed(
    findings: Findings, config: Config, source: Source, steps: int, measured: check_cost.StepCost
) -> None:
    """The time of the whole run, and whether the input keeps up with the device."""
    embedding = check_cost.embedding_seconds(config, source, measured)
    total = duration(check_cost.run_seconds(config, source, steps, measured))
    refresh = f"a refresh's embedding {duration(embedding)}, " if embedding else ""
    findings.found(
        "speed",
        f"{config.batch_size / measured.step_seconds:,.0f} images/s: an epoch of "
        f"{counted(steps, 'step')} takes {duration(steps * measured.step_seconds)}, {refresh}"
        f"{counted(config.epochs, 'epoch')} about {total}",
    )
    keeps_up = measured.input_seconds < _INPUT_SHARE * measured.step_seconds
    findings.found(
        "input",
        f"{config.batch_size / measured.input_seconds:,.0f} images/s alone: "
        + ("keeps up" if keeps_up else "the device waits for it"),
    )
    if not keeps_up:
        findings.advice.append(check_advice.faster_input(config, source))
