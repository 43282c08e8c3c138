"""What to do after a run, as commands."""

import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from ifnd_tf.run.records import RunRecords
from ifnd_tf.run.state import state

# Training steps in all below which a run tells nothing.
FEWEST_STEPS = 200


class Step(NamedTuple):
    """Something to do next.

    Attributes:
        command: to type.
        purpose: what it gives.
    """

    command: str
    purpose: str


def next_steps(
    run: RunRecords,
    *,
    learned: bool | None = None,
    sound: bool | None = None,
    long: bool | None = None,
) -> Iterator[Step]:
    """The steps, most useful first.

    Args:
        run: its records.
        learned, sound, long: whether a run learned more than its baselines, is free of collapse,
            and was trained long enough; None: not known.
    """
    if run.given_encoder:
        yield from _without_training(run)
        return
    path, done, planned = run.path, run.epochs_done, run.whole("epochs")
    same = f"--flagfile={shlex.quote(f'{path}/config.flags')}"
    own = f"--workdir={shlex.quote(path)}"
    unevaluated = labelled(run) and learned is None and "knn_top1" not in run.results
    # The report is written while its stage still runs.
    goes_on = bool(run.status) and state(run.status, time.time()) == "running"
    if goes_on and (done < planned or unevaluated):
        yield _step(f"--mode=watch {own}", "follows the run")
        return
    if run.flags and done < planned:
        yield _step(f"{same} {own}", "trains the epochs that are left")
        return
    if unevaluated:
        yield _step(f"--mode=evaluate,report {own}", "evaluates the encoder")
    steps = run.metrics[-1].get("step") if run.metrics else None
    few = isinstance(steps, int) and steps < FEWEST_STEPS
    if sound is False and not few:
        yield _step(
            f"{same} --workdir={shlex.quote(path + '-slower')} --learning_rate={_half_rate(run)}",
            "trains again at half the learning rate",
        )
    elif long is False or learned is False:
        # A thousand steps at least: fewer tell nothing.
        times = max(2, math.ceil(5 * FEWEST_STEPS / steps)) if few and steps else 2
        yield _step(
            f"{same} --workdir={shlex.quote(path + '-longer')} --epochs={times * max(1, planned)}",
            f"trains {times} times as long",
        )
    if sound is not False and "embedded_images" not in run.results:
        yield _step(f"--mode=embed {own}", "writes the images' features, clusters and duplicates")
    if run.flags.get("dataset") == "digits":
        yield _step("--preset=photos --dataset=folder:PATH", "trains on images of your own")
    if labelled(run) and "seeds" in run.flags:
        yield _step(
            f"{same} --workdir={shlex.quote(path + '-compare')} --mode=compare",
            "tells by several seeds if detection helps on these images",
        )


def labelled(run: RunRecords) -> bool:
    """Whether the training measured anything that needs labels."""
    return bool(run.values("online_knn_top1")) or any("precision" in r for r in run.detection)


def _without_training(run: RunRecords) -> Iterator[Step]:
    """The steps after images were evaluated or embedded by an encoder from elsewhere."""
    own = f"--workdir={shlex.quote(run.path)}"
    if "embedded_images" not in run.results:
        yield _step(f"--mode=embed {own}", "writes the images' features, clusters and duplicates")
        return
    data = run.flags.get("embed_dataset") or run.flags.get("dataset", "")
    table = f"{run.path}/embeddings/embeddings.{run.flags.get('embed_format', 'npz')}"
    words = [f"--dataset={data}", f"--detect_with={table}"]
    if where := run.flags.get("data_dir"):
        words.insert(1, f"--data_dir={where}")
    yield _step(
        f"--preset=photos {shlex.join(words)}",
        "trains an encoder on these images, whose false negatives these embeddings find",
    )


def _half_rate(run: RunRecords) -> str:
    try:
        return f"{float(run.flags['learning_rate']) / 2:g}"
    except (KeyError, ValueError):  # another runner's directory, or a damaged file
        return "RATE"


def _step(arguments: str, purpose: str) -> Step:
    return Step(f"{program()} {arguments}", purpose)


def program() -> str:
    """The command as it was typed: `ifnd`, or main.py or the package by Python."""
    name = os.path.basename(sys.argv[0])
    return {"main.py": "python main.py", "__main__.py": "python -m ifnd_tf"}.get(name, "ifnd")
