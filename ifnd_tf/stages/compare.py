"""`--mode=compare`: every variant with every seed, each in a directory of its own, and a summary.

All runs share one process: the data is opened and decoded once, TensorFlow starts once, and a TPU
or several workers, which child processes could not share, serve all runs. A run's graphs and
variables are freed before the next.
"""

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ifnd_tf.config import Config, settings
from ifnd_tf.errors import UserError
from ifnd_tf.report import compare_page
from ifnd_tf.report.compare_statistics import PROTOCOLS
from ifnd_tf.run.progress import Nested, duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.stages import compare_variants
from ifnd_tf.stages.evaluate import expected
from ifnd_tf.stages.run import Run, check_fit, evaluate, train, write_report
from ifnd_tf.stages.train import splits_are_labelled


class _Part(NamedTuple):
    """One run of the comparison."""

    member: compare_variants.Member
    run: Run

    @property
    def complete(self) -> bool:
        """Whether the run is trained to its end and evaluated by every protocol."""
        config, results = self.member.config, self.run.directory.results()
        return results.get("epochs", 0) >= config.epochs and all(
            any(name.startswith(start) for name in results) for start in expected(config)
        )


def compare(run: Run) -> None:
    """Runs what is missing of the comparison, and writes its summary.

    Finished runs are not repeated, and a stopped one goes on from its last checkpoint, whoever
    made them: what counts is the flags and results in their directories. So with nothing missing
    this only summarises, and seeds and variants can be added later.

    Raises:
        UserError: before anything runs, for variants that cannot be compared or do not fit the
            data; when the others have run, if runs failed.
    """
    parts = [
        _Part(
            member,
            Run(
                member.config,
                run.strategy,
                Nested(run.progress, f"{member.variant}, seed {member.seed}"),
            ),
        )
        for member in compare_variants.members(run.config)
    ]
    missing = [part for part in parts if not part.complete]
    run.directory.claim()
    run.progress.line(f"{len(parts)} runs to compare, {len(parts) - len(missing)} of them finished")
    opened: dict[Any, Run] = {_data(run.config): run}
    for part in missing:
        part.run.splits = opened.setdefault(_data(part.member.config), part.run).splits
        transfer = part.member.config.transfer_dataset
        part.run.transfer_splits = opened.setdefault(transfer, part.run).transfer_splits
        check_fit(part.run)
        if not splits_are_labelled(part.run.splits):
            raise UserError(
                "--mode=compare: expected labelled images to evaluate on. Received: "
                f"{part.run.splits.train.name} without; choose another --dataset."
            )
    failures: list[str] = []
    start = time.monotonic()
    tf.get_logger().addFilter(_traced_on_purpose)
    for number, part in enumerate(missing, start=1):
        try:
            outcome = _run(part)
        except UserError as error:
            outcome = f"failed: {error}"
            failures.append(f"{part.member.config.run_path}: {error}")
        left = (time.monotonic() - start) / number * (len(missing) - number)
        run.progress.line(
            f"{part.member.variant}, seed {part.member.seed}: {outcome}"
            f"  ({number} of {len(missing)}, ETA {duration(left)})"
        )
        _summarise(run, parts)
    tf.get_logger().removeFilter(_traced_on_purpose)
    run.progress.line(_summarise(run, parts))
    if failures:
        raise UserError(f"{len(failures)} of {len(parts)} runs failed, the first: {failures[0]}")


def _run(part: _Part) -> str:
    """Trains and evaluates one run; returns what came out, in a line."""
    start = time.monotonic()
    try:
        train(part.run)
        if part.run.directory.results().get("epochs", 0) < part.member.config.epochs:
            return f"stopped after epoch {part.member.config.stop_after_epoch}"
        evaluate(part.run)
        write_report(part.run)
    finally:
        keras.utils.clear_session()
    results = part.run.directory.results()
    shown = [f"{name} {results[name]:.3f}" for name in PROTOCOLS if name in results]
    return "  ".join([*shown, duration(time.monotonic() - start)])


def _traced_on_purpose(record: logging.LogRecord) -> bool:
    """Whether to log: every run traces its own graphs, which TensorFlow takes for an oversight."""
    return "triggered tf.function retracing" not in record.getMessage()


def _summarise(run: Run, parts: Sequence[_Part]) -> str:
    """Writes the summary of the runs that are complete; returns its table as text."""
    if not run.directory.writer:
        return ""
    found: dict[str, dict[int, RunRecords]] = {part.member.variant: {} for part in parts}
    for part in parts:
        if part.complete:
            found[part.member.variant][part.member.seed] = read_run(part.member.config.run_path)
    return compare_page.write(run.directory.path, run.config.experiment, found)


def _data(config: Config) -> tuple[Any, ...]:
    """What decides which images are opened, and how."""
    return tuple(getattr(config, field.name) for field in dataclasses.fields(settings.Data))
