"""Kills a run of the digits at random moments, resumes it, and compares its end with a whole run's.

One run takes several kills before it may end, so that each costs a few seconds.
"""

import pathlib
import random
import re
import shutil
from collections.abc import Callable
from typing import Any

from benchmarks.faults import child
from benchmarks.faults.equality import first_difference
from ifnd_tf.checkpoints import CheckpointStore

# 6 epochs of 11 steps, a refresh before each but the first, a checkpoint every 4 steps.
_INTERVAL = 4
_SETTINGS = [
    "--image_size=8", "--width=4", "--projection_dim=8", "--batch_size=128", "--queue_size=256",
    "--num_clusters=4,8", "--epochs=6", "--warmup_epochs=1", "--kmeans_iterations=5",
    "--online_knn_epochs=2", "--protocols=knn", "--mode=train,evaluate,export",
    f"--checkpoint_steps={_INTERVAL}",
]  # fmt: skip
_KILLS_A_RUN = 8
# A resumed run takes less time than a whole one; moments are drawn from this share of the latter.
_SHARE = 0.6


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
    reference = child.run([*_SETTINGS, f"--workdir={whole}"], root / "whole.log")
    assert reference.status == 0, reference.output
    runs = list(done)
    while sum(len(run["kills"]) for run in runs) < kills:
        left = kills - sum(len(run["kills"]) for run in runs)
        number = len(runs)
        run = _one_run(root, whole, min(left, _KILLS_A_RUN), reference.seconds, seed + number)
        runs.append(run)
        print(
            f"run {number + 1}: {len(run['kills'])} kills in "
            f"{', '.join(kill['phase'] for kill in run['kills'])}: {run['difference'] or 'equal'}",
            flush=True,
        )
        keep(_summary(runs))


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    every = [kill for run in runs for kill in run["kills"]]
    phases = [kill["phase"] for kill in every]
    return {
        "kills": len(every),
        "equal": sum(len(run["kills"]) for run in runs if run["difference"] is None),
        "differences": [run["difference"] for run in runs if run["difference"]],
        "most_steps_again": max((kill["steps_again"] for kill in every), default=0),
        "interval": _INTERVAL,
        "phases": {phase: phases.count(phase) for phase in sorted(set(phases))},
        "runs": runs,
    }


def _one_run(
    root: pathlib.Path, whole: pathlib.Path, kills: int, seconds: float, seed: int
) -> dict[str, Any]:
    """One run with so many kills, and how it ended."""
    draw = random.Random(seed)
    path, log = root / "killed", root / "killed.log"
    shutil.rmtree(path, ignore_errors=True)
    arguments = [*_SETTINGS, f"--workdir={path}"]
    happened: list[dict[str, Any]] = []
    while True:
        last = len(happened) == kills
        end = child.run(
            arguments, log, kill_after=None if last else draw.uniform(0.0, _SHARE * seconds)
        )
        if end.status == 0:  # before its time to die, perhaps
            return _ended(happened, first_difference(str(whole), str(path)))
        if end.status != -9:
            return _ended(happened, f"exit status {end.status}: {end.output[-2000:]}")
        steps = CheckpointStore(str(path / "checkpoints")).steps()
        again = max(0, end.step - (steps[-1] if steps else 0))
        happened.append({"phase": _phase(end.output), "steps_again": again})


def _ended(kills: list[dict[str, Any]], difference: str | None) -> dict[str, Any]:
    return {"kills": kills, "difference": difference}


def _phase(output: str) -> str:
    """What the terminal showed last."""
    shown = [text.strip() for text in re.split(r"[\r\n]+", output) if text.strip()]
    for name in ("compiling", "embedding", "clustering", "evaluating", "exported", "training"):
        if shown and name in shown[-1]:
            return name
    return "between" if shown else "start"
