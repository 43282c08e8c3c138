"""`--mode=compare`: every variant with every seed, each in a directory of its own, and a summary.

All runs share one process: the data is opened and decoded once, TensorFlow starts once, and a TPU
or several workers, which child processes could not share, serve all runs. A run's graphs and
variables are freed before the next.
"""

import time

import keras

from ifnd_tf.errors import UserError
from ifnd_tf.report import compare_page
from ifnd_tf.report.compare_statistics import COMPARED
from ifnd_tf.run.progress import Nested, duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.stages import compare_variants
from ifnd_tf.stages.compare_variants import Member
from ifnd_tf.stages.evaluate import evaluate, expected
from ifnd_tf.stages.report import write_report
from ifnd_tf.stages.run import Run
from ifnd_tf.stages.train import check_fit, train


def compare(run: Run) -> None:
    """Runs the missing runs of the comparison, and writes its summary.

    Finished runs are not repeated and stopped ones go on from their last checkpoint; a run counts
    by the flags and results in its directory. So with nothing missing this only summarises, and
    seeds and variants can be added later.

    Raises:
        UserError: before anything runs, for variants that cannot be compared or do not fit the
            data; when the others have run, if runs failed.
    """
    runs = {
        member: Run(
            member.config,
            run.strategy,
            Nested(run.progress, f"{member.variant}, seed {member.seed}"),
            opened=run.opened,
        )
        for member in compare_variants.members(run.config)
    }
    missing = {member: each for member, each in runs.items() if not _complete(each)}
    run.directory.claim()
    run.progress.line(f"{len(runs)} runs to compare, {len(runs) - len(missing)} of them finished")
    for each in missing.values():
        check_fit(each)
        if not each.labelled:
            raise UserError(
                "--mode=compare: expected labelled images to evaluate on. Received: "
                f"{each.splits.train.name} without; choose another --dataset."
            )
    failures: list[str] = []
    start = time.monotonic()
    for number, (member, each) in enumerate(missing.items(), start=1):
        try:
            outcome = _run(each)
        except UserError as error:
            outcome = f"failed: {error}"
            failures.append(f"{each.config.run_path}: {error}")
        left = (time.monotonic() - start) / number * (len(missing) - number)
        run.progress.line(
            f"{member.variant}, seed {member.seed}: {outcome}"
            f"  ({number} of {len(missing)}, ETA {duration(left)})"
        )
        _summarise(run, runs)
    run.progress.line(_summarise(run, runs))
    if failures:
        raise UserError(f"{len(failures)} of {len(runs)} runs failed, the first: {failures[0]}")


def _complete(run: Run) -> bool:
    """Whether a run is trained to its end and evaluated by every protocol."""
    results = run.directory.results()
    return results.get("epochs", 0) >= run.config.epochs and all(
        any(name.startswith(start) for name in results) for start in expected(run.config)
    )


def _run(run: Run) -> str:
    """Trains and evaluates one run; returns its results in a line."""
    start = time.monotonic()
    try:
        train(run)
        if run.directory.results().get("epochs", 0) < run.config.epochs:
            return f"stopped after epoch {run.config.stop_after_epoch}"
        evaluate(run)
        write_report(run)
    finally:
        keras.utils.clear_session()
    results = run.directory.results()
    shown = [f"{name} {results[name]:.3f}" for name in COMPARED if name in results]
    return "  ".join([*shown, duration(time.monotonic() - start)])


def _summarise(run: Run, runs: dict[Member, Run]) -> str:
    """Writes the summary of the runs that are complete; returns its table as text."""
    if not run.directory.writer:
        return ""
    found: dict[str, dict[int, RunRecords]] = {member.variant: {} for member in runs}
    for member, each in runs.items():
        if _complete(each):
            found[member.variant][member.seed] = read_run(each.config.run_path)
    return compare_page.write(run.directory.path, run.config.name, found)
