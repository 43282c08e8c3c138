"""k-means against scikit-learn and, where it is installed, faiss: same data, same start.

    python -m benchmarks.kmeans
    python -m benchmarks.kmeans --json kmeans.json --clusters 4000 --repeats 3

Every contender runs once a round, in turn, so that a busy machine slows all alike; times are
wall seconds, compilation left out. Ratios are taken within a round and then the median over rounds.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from ifnd_tf.kmeans import initial_centroids, kmeans

Run = Callable[[], float]  # Runs once and returns the inertia.


def unit_blobs(num: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors around 200 directions, as embeddings are: float32 [num, width]."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(200, width))
    points = centres[random.integers(0, 200, num)] + random.normal(size=(num, width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def ours(points: np.ndarray, start: np.ndarray, iterations: int, jit: bool | None) -> Run:
    """This project's, the confidence included; `jit` compiles it with XLA."""
    index, data = tf.range(len(points)), tf.constant(points)

    @tf.function(jit_compile=jit)
    def cluster(data: tf.Tensor, index: tf.Tensor, start: tf.Tensor) -> Any:
        return kmeans(data, index, start, num_iterations=iterations, confidence_temperature=0.2)

    return lambda: float(cluster(data, index, tf.constant(start)).inertia.numpy())


def scikit_learn(points: np.ndarray, start: np.ndarray, iterations: int) -> Run:
    """scikit-learn's Lloyd, kept from stopping early."""
    model = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")

    def run() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return float(model.fit(points).inertia_)

    return run


def faiss(points: np.ndarray, start: np.ndarray, iterations: int) -> Run | None:
    """faiss-cpu's, without its sub-sampling; None where it is not installed."""
    try:
        import faiss as library
    except ImportError:
        return None

    def run() -> float:
        model = library.Kmeans(
            points.shape[1],
            len(start),
            niter=iterations,
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
        )
        model.train(points, init_centroids=start)
        distances, _ = model.index.search(points, 1)  # The final assignment, as the others do.
        return float(distances.sum())

    return run


def measure(
    num: int, width: int, clusters: int, iterations: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Times all contenders.

    Returns:
        A dict with the sizes, and under "results" for each contender its median, least and
        most seconds, its inertia, and `ratio`: how many times longer than ours it takes.
    """
    points = unit_blobs(num, width, seed)
    start = points[np.random.default_rng(seed + 1).choice(num, clusters, replace=False)]
    contenders: dict[str, Run | None] = {
        "ours": ours(points, start, iterations, None),
        "ours, XLA": ours(points, start, iterations, True),
        "scikit-learn": scikit_learn(points, start, iterations),
        "faiss-cpu": faiss(points, start, iterations),
    }
    runs = {name: run for name, run in contenders.items() if run is not None}
    inertia = {name: run() for name, run in runs.items()}  # Compiles, and warms up.
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)

    choose = tf.function(
        lambda: initial_centroids(points, tf.range(num), num_clusters=clusters, seed=seed)
    )
    choose()
    begin = time.perf_counter()
    choose().numpy()
    results = {
        name: {
            "median_seconds": statistics.median(times),
            "least_seconds": min(times),
            "most_seconds": max(times),
            "inertia": inertia[name],
            "ratio": statistics.median(
                theirs / own for theirs, own in zip(times, seconds["ours"], strict=True)
            ),
        }
        for name, times in seconds.items()
    }
    return {
        "num": num,
        "width": width,
        "clusters": clusters,
        "iterations": iterations,
        "repeats": repeats,
        "machine": platform.processor() or platform.machine(),
        "tensorflow": tf.__version__,
        "initial_centroids_seconds": time.perf_counter() - begin,
        "results": results,
    }


def main() -> None:
    """Reads the command line, measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    parser.add_argument("--num", type=int, default=50_000, help="Points N.")
    parser.add_argument("--width", type=int, default=128, help="Width D.")
    parser.add_argument("--clusters", type=int, default=1000, help="Clusters K.")
    parser.add_argument("--iterations", type=int, default=10, help="Lloyd iterations.")
    parser.add_argument("--repeats", type=int, default=7, help="Timed rounds.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of data and start.")
    options = vars(parser.parse_args())
    path = options.pop("json")
    report = measure(**options)
    print(
        f"k-means, N={report['num']} D={report['width']} K={report['clusters']}, "
        f"{report['iterations']} iterations and a final assignment, {report['repeats']} rounds"
    )
    print(f"{'':14}{'median s':>10}{'least':>8}{'most':>8}{'x ours':>8}{'inertia':>12}")
    for name, row in report["results"].items():
        print(
            f"{name:14}{row['median_seconds']:10.3f}{row['least_seconds']:8.3f}"
            f"{row['most_seconds']:8.3f}{row['ratio']:8.2f}{row['inertia']:12.1f}"
        )
    print(f"k-means++ start: {report['initial_centroids_seconds']:.3f} s")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
