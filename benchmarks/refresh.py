"""The cost of a refresh: embedding, clustering, acceptance and assignment, beside its epoch.

    python -m benchmarks.refresh --data=data/cifar10 --json -

--detect_with=encoder is measured beside the bare forward pass over the same images, and
--detect_with=keys beside an epoch, whose length is measured on some of its steps. Both start from
the last centroids, as all refreshes but a run's first do.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import rows
from benchmarks.rows import Row, in_turn, row, seconds
from benchmarks.run_parts import RunParts, parts
from ifnd_tf.detection.detectors import ClusterDetector, Detector
from ifnd_tf.detection.embeddings import ImagePass
from ifnd_tf.distribute.replicas import on_replicas
from ifnd_tf.stages import build_detection

_FLAGS = ("--flagfile=experiments/cifar10_cpu.flags",)


def refresh(run: RunParts, detector: Detector) -> Callable[[], None]:
    """All that the callback does at a refresh but its statistics of true labels."""

    def call() -> None:
        found = detector.detect(0.5, lambda name: contextlib.nullcontext())
        run.model.pseudo_labels.assign(found.labels)

    return call


def bare_pass(run: RunParts) -> Callable[[], None]:
    """The forward pass over all images, without keeping the results."""
    table = build_detection.embedding_table(run.config, run.strategy, run.model, run.source)
    assert isinstance(table, ImagePass)
    embed = on_replicas(run.strategy, table.embed)

    def call() -> None:
        for batch in table.batches():
            found = embed(batch["images"])
        run.strategy.experimental_local_results(found)[0].numpy()

    return call


def epoch_seconds(run: RunParts, steps: int) -> float:
    """Seconds of an epoch at the speed of some of its steps, input included."""
    step, batches = run.model.make_train_function(), run.batches()
    for _ in range(3):
        float(step(batches)["loss"])
    taken = [seconds(lambda: float(step(batches)["loss"])) for _ in range(steps)]
    return float(np.median(taken)) * run.steps


def measure(data: str, steps: int, rounds: int) -> Iterator[Row]:
    """All rows."""
    passing = parts(*_FLAGS, f"--dataset=folder:{data}")
    detector = build_detection.make_detector(
        passing.config, passing.strategy, passing.model, passing.source
    )
    whole, bare = refresh(passing, detector), bare_pass(passing)
    times = in_turn({"ours": lambda: seconds(whole), "peer": lambda: seconds(bare)}, rounds)
    yield row(
        "CIFAR-10, a pass of its own", "cost of a refresh, s", times["ours"], times["peer"],
        "bare forward pass",
    )  # fmt: skip
    keeping = parts(*_FLAGS, f"--dataset=folder:{data}", "--detect_with=keys")
    assert keeping.model.memory is not None
    assert isinstance(detector, ClusterDetector)
    # The table's embeddings stand for keys: those of random weights have as much structure.
    points, index = detector.kmeans.table.read()
    keeping.model.memory.update(points, index)
    whole = refresh(
        keeping,
        build_detection.make_detector(
            keeping.config, keeping.strategy, keeping.model, keeping.source
        ),
    )
    epoch = epoch_seconds(keeping, steps)
    times = in_turn({"ours": lambda: seconds(whole)}, rounds)
    name = "CIFAR-10, kept keys"
    yield row(name, "cost of a refresh, s", times["ours"], [epoch] * rounds, "epoch")
    yield row(name, "epoch, images/s", [keeping.steps * keeping.config.batch_size / epoch])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="data/cifar10", help="folder of CIFAR-10 as images")
    parser.add_argument("--steps", type=int, default=30, help="timed training steps")
    parser.add_argument("--rounds", type=int, default=3, help="timed refreshes")
    rows.run("refresh", parser, measure)


if __name__ == "__main__":
    main()
