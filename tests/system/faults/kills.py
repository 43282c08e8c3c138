"""Kills a run of the digits at random moments, resumes it, and compares its end with a whole run's.

One run takes several kills before it may end, so that each costs a few seconds.
"""

import functools
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

from ifnd_tf.run.checkpoints import CheckpointStore
from tests.system.faults import child
from tests.system.faults.equality import first_difference
from tests.system.faults.phases import PHASES, Phases

# 6 epochs of 11 steps, a refresh before each but the first, a checkpoint every 4 steps at least.
_INTERVAL = 4
_SETTINGS = [
    "--backbone=resnet_tiny", "--image_size=8", "--width=4", "--projection_dim=8",
    "--batch_size=128", "--queue_size=256",
    "--num_clusters=4,8", "--epochs=6", "--warmup_epochs=1", "--kmeans_iterations=5",
    "--online_knn_epochs=3", "--protocols=knn", "--mode=train,evaluate,export",
    "--export_formats=saved_model", "--report_examples=0", "--report_share=0",
    f"--checkpoint_steps={_INTERVAL}",
]  # fmt: skip
_KILLS_A_RUN = 8
# Most of the time goes into starting, so that moments drawn from time alone would seldom fall into
# anything else: half the kills and more aim at a phase, at one of its first so many turns.
_TURNS = {"checkpoint": 4, "refresh": 2, "evaluation": 1, "export": 1, "step": 11}
_ANY = "any"
# A resumed run takes less time than a whole one; moments are drawn from this share of the latter.
_SHARE = 0.6


class Moment(NamedTuple):
    """When to kill: so many seconds after a phase began for the n-th time, or after the start."""

    phase: str
    turn: int
    seconds: float


def measure(
    workdir: str,
    *,
    kills: int,
    seed: int,
    done: list[dict[str, Any]],
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Kills runs until there were so many kills.

    Args:
        workdir: scratch folder.
        kills: how many.
        seed: of the moments.
        done: runs of an earlier call, to go on from.
        keep: given the results after each run: "kills", "equal" (kills of runs that ended
            bit-equal), "differences", "most_steps_again", "interval" in steps, "phases" (in
            which the kills fell) and "runs".
    """
    root = pathlib.Path(workdir)
    root.mkdir(parents=True, exist_ok=True)
    whole = root / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    phases = Phases()
    reference = child.call(
        functools.partial(phases.run, [*_SETTINGS, f"--workdir={whole}"]), root / "whole.log"
    )
    assert reference.status == 0, reference.output
    lasts = dict(zip(PHASES, phases.seconds / phases.ended, strict=True))
    lasts[_ANY] = _SHARE * reference.seconds
    runs = list(done)
    while sum(len(run["kills"]) for run in runs) < kills:
        left = kills - sum(len(run["kills"]) for run in runs)
        draw = random.Random(seed + len(runs))
        run = _one_run(root, whole, _moments(draw, min(left, _KILLS_A_RUN), lasts))
        runs.append(run)
        print(
            f"run {len(runs)}: {len(run['kills'])} kills in "
            f"{', '.join(kill['phase'] for kill in run['kills'])}: {run['difference'] or 'equal'}",
            flush=True,
        )
        keep(_summary(runs))


def _moments(draw: random.Random, count: int, lasts: dict[str, float]) -> list[Moment]:
    """So many moments of one run; what comes after training comes last."""
    last = ("evaluation", "export")
    kinds = sorted(draw.choices([_ANY, *_TURNS], k=count), key=lambda kind: kind in last)
    kinds.sort(key=lambda kind: kind == last[1])
    return [
        Moment(kind, draw.randint(1, _TURNS.get(kind, 1)), draw.uniform(0.0, lasts[kind]))
        for kind in kinds
    ]


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    every = [kill for run in runs for kill in run["kills"]]
    fell = [kill["phase"] for kill in every]
    return {
        "kills": len(every),
        "equal": sum(len(run["kills"]) for run in runs if run["difference"] is None),
        "differences": [run["difference"] for run in runs if run["difference"]],
        "most_steps_again": max((kill["steps_again"] for kill in every), default=0),
        "interval": _INTERVAL,
        "phases": {phase: fell.count(phase) for phase in sorted(set(fell))},
        "runs": runs,
    }


def _one_run(root: pathlib.Path, whole: pathlib.Path, moments: list[Moment]) -> dict[str, Any]:
    """One run, killed at each of the moments that it lives to see, and how it ended."""
    path, log = root / "killed", root / "killed.log"
    shutil.rmtree(path, ignore_errors=True)
    arguments = [*_SETTINGS, f"--workdir={path}"]
    kills: list[dict[str, Any]] = []
    for moment in [*moments, None]:
        phases = Phases()
        kill = None if moment is None else _killer(moment, phases)
        end = child.call(functools.partial(phases.run, arguments), log, kill)
        if end.status == 0:  # before its time to die, perhaps
            return {"kills": kills, "difference": first_difference(str(whole), str(path))}
        if end.status != -9:
            break
        saved = CheckpointStore(str(path / "checkpoints")).steps()
        again = max(0, int(phases.step[0]) - (saved[-1] if saved else 0))
        kills.append({"phase": phases.now(), "steps_again": again})
    return {"kills": kills, "difference": f"exit status {end.status}: {end.output[-2000:]}"}


def _killer(moment: Moment, phases: Phases) -> Callable[[float], bool]:
    """Whether the moment has come, given the seconds since the start."""
    begun = None if moment.phase != _ANY else 0.0

    def due(seconds: float) -> bool:
        nonlocal begun
        if begun is None and phases.begun[PHASES.index(moment.phase)] >= moment.turn:
            begun = seconds
        return begun is not None and seconds - begun >= moment.seconds

    return due
