"""k-means to equal inertia, against faiss and scikit-learn, and against the machine's limits.

    python -m benchmarks.kmeans --json -

The inertia to reach is 0.5% above the lowest that the peer reaches in its iterations. Both are
timed until their first inertia that is no higher, initial centroids included; ours includes the
final pass with the confidences, too.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks import peer, rows
from benchmarks.memory import peak_growth
from benchmarks.rows import Row, in_turn, row, seconds
from ifnd_tf.clustering.kmeans import initial_centroids, kmeans
from ifnd_tf.clustering.lloyd import RELAXATION, TOLERANCE, move_centroids

WIDTH = 128
# N, K, iterations that peers get, and rounds.
CASES = ((50_000, 1000, 25, 2), (200_000, 5000, 8, 1), (50_000, 100, 20, 3))
_SLACK = 1.005


def embeddings(num: int, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Unit vectors [N, 128] like an encoder's: a smooth image of a few dimensions, with groups.

    200 groups in 16 dimensions, sent through a random layer of ReLUs, plus noise.
    """
    random = np.random.default_rng(0)
    groups = random.normal(size=(200, 16))
    first = random.normal(size=(16, 256)) / 4
    second = random.normal(size=(256, WIDTH)) / 16
    random = np.random.default_rng(seed)
    latent = groups[random.integers(0, 200, num)] + 0.5 * random.normal(size=(num, 16))
    x = np.maximum(latent @ first, 0) @ second + noise * random.normal(size=(num, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


class Ours:
    """This project's k-means of given points, compiled."""

    def __init__(self, points: np.ndarray, clusters: int):
        data, index = tf.constant(points), tf.range(len(points))

        def fit(start: tf.Tensor, iterations: tf.Tensor, tolerance: float) -> Any:
            return kmeans(
                data, index, start, num_iterations=iterations, confidence_temperature=0.2,
                tolerance=tolerance, relaxation=RELAXATION,
            )  # fmt: skip

        self.start = tf.function(
            lambda seed: initial_centroids(data, index, num_clusters=clusters, seed=seed)
        )
        self.move = tf.function(lambda start: move_centroids(data, index, start).centroids)
        self.iterate = tf.function(lambda start, number: fit(start, number, 0.0))
        self.settle = tf.function(lambda start: fit(start, 20, TOLERANCE))

    def reach(self, seed: int, iterations: int) -> float:
        """Seconds of a cold start with so many iterations."""
        number = tf.constant(iterations)
        return seconds(lambda: self.iterate(self.start(tf.constant(seed)), number)[4].numpy())

    def inertias(self, seed: int) -> Iterator[float]:
        """The inertias of a cold start, before the first and after each iteration."""
        centroids = self.start(tf.constant(seed))
        yield float(self.iterate(centroids, tf.constant(0)).inertia)
        while True:
            found = self.iterate(centroids, tf.constant(1))
            yield float(found.inertia)
            centroids = found.centroids


def until(curve: list[list[float]], target: float) -> float:
    """Seconds of the first point [seconds, inertia] with an inertia no higher than the target."""
    return next(at for at, inertia in curve if inertia <= target)


def contenders(case: tuple[int, int, int, int], other: peer.Peer | None) -> dict[str, Callable]:
    """By peer, a function: seed -> its curve of points [seconds, inertia]."""
    num, clusters, iterations, _ = case
    if other is None:
        return {}
    limits = {"clusters": clusters, "iterations": iterations}
    found: dict[str, Callable] = {
        "faiss-cpu": lambda seed: other.call("faiss_cpu", seed=seed, **limits),
        "scikit-learn Lloyd": lambda seed: other.call(
            "scikit_learn", seed=seed, algorithm="lloyd", **limits
        ),
        "scikit-learn MiniBatch": lambda seed: other.call(
            "mini_batch", seed=seed, clusters=clusters
        ),
    }
    if num * clusters < 1e8:  # Its bounds would take gigabytes.
        found["scikit-learn Elkan"] = lambda seed: other.call(
            "scikit_learn", seed=seed, algorithm="elkan", **limits
        )
    return found


def to_equal_inertia(case: tuple[int, int, int, int], other: peer.Peer | None) -> Iterator[Row]:
    """Rows of one case against every peer."""
    num, clusters, _, rounds = case
    points = embeddings(num)
    ours = Ours(points, clusters)
    name = f"{num // 1000}k x {WIDTH}, K = {clusters}"
    if other is not None:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/points.npy", points)
            other.call("load", path=f"{folder}/points.npy")
    curves: dict[str, list[Any]] = {who: [] for who in contenders(case, other)}
    for seed in range(rounds):
        for who, run in contenders(case, other).items():
            curves[who].append(run(seed))
    metric = "time to equal inertia, s"
    if not curves:
        yield row(name, metric, [ours.reach(seed, 10) for seed in range(1 + rounds)][1:])
        return
    inertias, more = list[float](), ours.inertias(0)
    for who, found in curves.items():
        target = _SLACK * max(min(each[1] for each in curve) for curve in found)
        while not inertias or inertias[-1] > target:
            inertias.append(next(more))
        needed = next(n for n, inertia in enumerate(inertias) if inertia <= target)
        own = [ours.reach(seed, needed) for seed in range(rounds)]
        yield row(name, metric, own, [until(curve, target) for curve in found], who)


def limits(case: tuple[int, int, int, int]) -> Iterator[Row]:
    """Speed of an iteration beside that of a product, and a warm start beside a cold one."""
    num, clusters, _, rounds = case
    name = f"{num // 1000}k x {WIDTH}, K = {clusters}"
    ours, older = Ours(embeddings(num), clusters), Ours(embeddings(num, noise=0.03), clusters)
    start = ours.start(tf.constant(0))
    square = tf.random.normal([4096, 4096])
    product = tf.function(lambda a: tf.matmul(a, a)[0, 0])
    rates = in_turn(
        {
            "ours": lambda: (
                2e-9 * num * clusters * WIDTH / seconds(lambda: ours.move(start).numpy())
            ),
            "peak": lambda: 2e-9 * 4096**3 / seconds(lambda: product(square).numpy()),
        },
        2 * rounds + 1,
    )
    yield row(
        name, "iteration, GFLOP/s", rates["ours"], rates["peak"], "float32 GEMM peak",
        larger_is_better=True,
    )  # fmt: skip
    warm = older.settle(older.start(tf.constant(0))).centroids
    ours.settle.get_concrete_function(warm)
    times = in_turn(
        {
            "warm": lambda: seconds(lambda: ours.settle(warm)[4].numpy()),
            "cold": lambda: seconds(lambda: ours.settle(ours.start(tf.constant(0)))[4].numpy()),
        },
        rounds,
        warm=rounds > 1,  # A round more would take a minute of the largest case.
    )
    yield row(name, "warm start, s", times["warm"], times["cold"], "our cold start")


def settling(num: int, clusters: int) -> Callable[[], Any]:
    """A cold start to the end, as a call."""
    ours = Ours(embeddings(num), clusters)
    return lambda: ours.settle(ours.start(tf.constant(0)))[4].numpy()


def measure(clusters: list[int]) -> Iterator[Row]:
    """Rows of the cases with these K."""
    with peer.started("clustering", "faiss-cpu and scikit-learn") as other:
        for case in CASES:
            if case[1] in clusters:
                yield from to_equal_inertia(case, other)
                yield from limits(case)
    if 1000 in clusters:
        for num in (50_000, 400_000):
            grown = peak_growth("benchmarks.kmeans", "settling", (8192, 16), (num, 1000))
            yield row(
                f"{num // 1000}k x {WIDTH}, K = 1000", "memory beyond the points, MB", [grown]
            )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    every = [case[1] for case in CASES]
    parser.add_argument("--clusters", type=int, nargs="+", default=every, help="K of the cases")
    rows.run("kmeans", parser, measure)


if __name__ == "__main__":
    main()
