"""`--mode=compare`: runs each variant with every seed, in directories of their own, and sums up."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from ifnd_tf.errors import UserError
from ifnd_tf.report import compare_page
from ifnd_tf.run.progress import Nested, duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.run.words import counted
from ifnd_tf.stages import compare_runs, compare_tuning, compare_variants, compare_workers
from ifnd_tf.stages.compare_runs import complete
from ifnd_tf.stages.compare_variants import Member
from ifnd_tf.stages.run import Run
from ifnd_tf.stages.train import check_fit

Runs = Mapping[Member, Run]
# The summary names the runs that it lacks, up to this many.
_NAMED = 8


def compare(run: Run) -> None:
    """Trains the missing runs of the comparison, after its tuning trials, and writes its summary.

    Finished runs are not repeated, and stopped ones continue from their last checkpoint. A run is
    finished if its directory holds its flags and all results, so with nothing missing this only
    summarises, and seeds and variants can be added later.

    Raises:
        UserError: before anything runs, for variants that cannot be compared or do not fit the
            data; at the end, if runs failed.
    """
    trials = compare_variants.trials(run.config)
    # Listed before the trials too, so that wrong variants are refused before anything runs.
    members = compare_variants.members(run.config)
    notes: list[str] = []
    if trials:
        chosen = _tuned(run, trials)
        members = compare_variants.members(run.config, chosen)
        notes = _left_out(members, chosen)
        members = [member for member in members if member.variant in chosen]
    runs = _opened(run, members)
    failures = _run_missing(run, runs, complete, lambda: _summarise(run, runs, notes))
    run.progress.line(_summarise(run, runs, notes))
    if failures:
        raise UserError(
            f"{len(failures)} of {counted(len(runs), 'run')} failed; the same command repeats "
            f"them. The first failure: {failures[0]}"
        )


def _tuned(run: Run, trials: Sequence[Member]) -> dict[str, dict[str, str]]:
    """Runs the missing trials and writes tuning.tsv; the settings chosen for each variant."""
    runs = _opened(run, trials)
    failures = _run_missing(run, runs, compare_tuning.ended, lambda: None)
    left = [each for each in runs.values() if not compare_tuning.ended(each)]
    if left:
        raise UserError(
            f"{len(left)} of {len(runs)} tuning trials have not ended, so nothing is chosen; "
            f"the same command repeats them. The first failure: {next(iter(failures), 'a stop')}"
        )
    run.directory.write("tuning.tsv", compare_tuning.table(runs))
    run.progress.line(
        f"settings chosen by {counted(len(runs), 'trial')}: {run.directory.file('tuning.tsv')}"
    )
    return compare_tuning.chosen(runs)


def _left_out(members: Sequence[Member], chosen: Collection[str]) -> list[str]:
    """A sentence on the variants of which every trial diverged.

    Raises:
        UserError: if the baseline is one of them.
    """
    baseline, *others = dict.fromkeys(member.variant for member in members)
    if baseline not in chosen:
        raise UserError(
            f"--tuning_trials: expected a trial of the baseline, {baseline}, that does not "
            "diverge. Received: none; put another variant first, or change its alternatives and "
            f"remove tuning/{baseline}-*."
        )
    gone = [name for name in others if name not in chosen]
    return [f"Left out, since every tuning trial diverged: {', '.join(gone)}."] if gone else []


def _opened(run: Run, members: Sequence[Member]) -> dict[Member, Run]:
    """The runs of members, which share the terminal and the data."""
    return {
        member: Run(
            member.config, run.strategy, Nested(run.progress, member.title), opened=run.opened
        )
        for member in members
    }


def _run_missing(
    run: Run, runs: Runs, done: Callable[[Run], bool], after_each: Callable[[], object]
) -> list[str]:
    """Checks and executes the runs that are not done; returns the reasons of those that failed."""
    missing = {member: each for member, each in runs.items() if not done(each)}
    kind = next(iter(runs)).kind
    name = {"seed": "runs to compare", "trial": "tuning trials"}[kind]
    for each in missing.values():
        _check(each)
    run.directory.claim()
    run.progress.line(f"{len(runs)} {name}, {len(runs) - len(missing)} of them finished")
    if not missing:
        return []
    jobs = min(compare_workers.number(run), len(missing))
    if jobs > 1:
        tasks = [compare_workers.Task(m.title, m.config) for m in missing]
        outcomes = compare_workers.side_by_side(tasks, jobs, run.progress)
    else:
        outcomes = compare_runs.one_after_the_other(list(missing.values()))
    failures: list[str] = []
    start = time.monotonic()
    with contextlib.closing(outcomes):
        for number, found in enumerate(outcomes, start=1):
            member = list(missing)[found.place]
            left = (time.monotonic() - start) / number * (len(missing) - number)
            outcome = f"failed: {found.text}" if found.failed else found.text
            run.progress.line(
                f"{member.title}: {outcome}  ({number} of {len(missing)}, ETA {duration(left)})"
            )
            if found.failed:
                failures.append(f"{member.config.run_path}: {found.text}")
            after_each()
    return failures


def _check(run: Run) -> None:
    """Raises `UserError` if a run does not fit the data or has no labels to be evaluated by."""
    check_fit(run)
    if not run.labelled:
        raise UserError(
            "--mode=compare: expected labelled images to evaluate on. Received: "
            f"{run.splits.train.name} without; put them into class folders or name their labels "
            "in --dataset=list:FILE."
        )


def _summarise(run: Run, runs: Runs, notes: Sequence[str]) -> str:
    """Writes the summary of the runs that are complete; returns its table as text."""
    if not run.directory.writer:
        return ""
    found: dict[str, dict[int, RunRecords]] = {member.variant: {} for member in runs}
    missing: dict[Member, Run] = {}
    for member, each in runs.items():
        if complete(each):
            found[member.variant][member.number] = read_run(each.config.run_path)
        else:
            missing[member] = each
    notes = [*notes, *_missing(missing, len(runs))]
    return compare_page.write(run.directory.path, run.config.name, found, notes)


def _missing(missing: Runs, total: int) -> list[str]:
    """Sentences on the runs that the summary lacks."""
    gone, left = list[str](), list[str]()
    for member, each in missing.items():
        diverged = compare_runs.DIVERGED in each.directory.results()
        (gone if diverged else left).append(member.title)
    shown = f": {'; '.join(left)}" if len(left) <= _NAMED else ""
    return [
        *([f"Diverged, so without results: {'; '.join(gone)}."] if gone else []),
        *([f"{len(left)} of {total} runs have no results yet{shown}."] if left else []),
    ]
