"""The growth of costs with N, K, B, Q and replicas: exponents fitted to measured times, with plots.

    python -m benchmarks.scaling --plots=docs/images --json -

A cost that grows as size^e is a straight line of slope e in both logarithms.
"""

import argparse
import io
import os
import pathlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks import loss, rows
from benchmarks.kmeans import Ours, embeddings
from benchmarks.memory import apart
from benchmarks.rows import Row, in_turn, row, seconds
from ifnd_tf.clustering.lloyd import move_centroids
from ifnd_tf.distribute.replicas import replica_collectives


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The slope of log time over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def iteration(num: int, clusters: int) -> Callable[[], Any]:
    """One k-means iteration as a call."""
    ours = Ours(embeddings(num), clusters)
    start = tf.constant(embeddings(clusters, seed=1))
    return lambda: ours.move(start).numpy()


def replicated(replicas: int) -> float:
    """Seconds of an iteration over so many replicas on one machine's cores; in a fresh process."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    points = tf.split(tf.constant(embeddings(32_768)), replicas)
    index = tf.split(tf.range(32_768), replicas)
    data = [
        strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: parts[context.replica_id_in_sync_group]
        )
        for parts in (points, index)
    ]
    start = tf.constant(embeddings(500, seed=1))

    def move(points: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        found = move_centroids(points, index, start, collectives=replica_collectives())
        return found.gain

    run = tf.function(lambda: strategy.run(move, args=tuple(data)))
    call = lambda: strategy.experimental_local_results(run())[0].numpy()  # noqa: E731
    return statistics.median(in_turn({"": lambda: seconds(call)}, 3)[""])


def measured(sizes: Sequence[int], make: Callable[[int], Callable[[], Any]], n: int) -> list[float]:
    """Median seconds at each size."""
    runs = {str(size): make(size) for size in sizes}
    found = in_turn({k: lambda run=run: seconds(run) for k, run in runs.items()}, n)  # type: ignore[misc]
    return [statistics.median(found[str(size)]) for size in sizes]


def measure(plots: pathlib.Path | None, rounds: int) -> Iterator[Row]:
    """One row for each size that grows."""
    grow: dict[str, tuple[tuple[int, ...], Callable[[int], Callable[[], Any]]]] = {
        "k-means iteration, N (K = 500)": ((8192, 16384, 32768), lambda n: iteration(n, 500)),
        "k-means iteration, K (N = 16384)": ((125, 250, 500, 1000), lambda k: iteration(16384, k)),
        "masked loss, B (Q = 4096)": ((64, 128, 256, 512), lambda b: loss.loss(b, 4096, "mask")),
        "masked loss, Q (B = 256)": (
            (2048, 4096, 8192, 16384), lambda q: loss.loss(256, q, "mask")
        ),
    }  # fmt: skip
    curves = {name: (sizes, measured(sizes, make, rounds)) for name, (sizes, make) in grow.items()}
    name, counts = "k-means iteration, replicas on the same cores", (1, 2, 4)
    curves[name] = (counts, [apart("benchmarks.scaling", "replicated", r) for r in counts])
    for name, (sizes, times) in curves.items():
        yield row(name, "exponent of the time", [exponent(sizes, times)])
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        (plots / "scaling.svg").write_text(plot(curves), encoding="utf-8")


def plot(curves: Mapping[str, tuple[Sequence[int], list[float]]]) -> str:
    """All curves, each relative to its first size, in both logarithms: an SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, (sizes, times) in curves.items():
        label = f"{name}: {exponent(sizes, times):.2f}"
        axes.loglog(
            np.array(sizes) / sizes[0], np.array(times) / times[0], marker="o", label=label, base=2
        )
    axes.set(xlabel="size, times the smallest", ylabel="time, times that of the smallest")
    axes.legend(fontsize=8)
    out = io.StringIO()
    figure.savefig(out, format="svg")
    return out.getvalue()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plots", type=pathlib.Path, help="folder for scaling.svg")
    parser.add_argument("--rounds", type=int, default=5)
    rows.run("scaling", parser, measure)


if __name__ == "__main__":
    main()
