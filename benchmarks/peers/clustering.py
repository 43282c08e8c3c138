"""faiss's and scikit-learn's k-means, with the time at which each inertia was reached.

Needs `make bench-peers`; runs in that environment, driven by benchmarks.kmeans.
"""

import contextlib
import re
import time
import warnings
from typing import Any

import faiss
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from benchmarks.peers.serving import serve

_points: Any = None


def load(path: str) -> None:
    """Takes the points [N, D] of a .npy file."""
    global _points
    _points = np.load(path)


def faiss_cpu(clusters: int, iterations: int, seed: int) -> list[list[float]]:
    """[seconds, inertia] after each iteration; all points are used."""
    model = faiss.Kmeans(
        _points.shape[1],
        clusters,
        niter=iterations,
        seed=seed + 1,
        max_points_per_centroid=len(_points),
        min_points_per_centroid=1,
    )
    model.train(_points)
    return [[each["time"], each["obj"]] for each in model.iteration_stats]


class _Clock:
    """Notes when scikit-learn prints an iteration's inertia."""

    def __init__(self) -> None:
        self.begin, self.found = time.perf_counter(), list[list[float]]()

    def write(self, text: str) -> None:
        for inertia in re.findall(r"Iteration \d+, inertia ([\d.e+]+)", text):
            self.found.append([time.perf_counter() - self.begin, float(inertia.rstrip("."))])

    def flush(self) -> None:
        pass


def scikit_learn(clusters: int, iterations: int, seed: int, algorithm: str) -> list[list[float]]:
    """[seconds, inertia] after each iteration, from random points: k-means++ takes longer."""
    model = KMeans(
        clusters,
        init="random",
        n_init=1,
        max_iter=iterations,
        algorithm=algorithm,
        random_state=seed,
        verbose=1,
    )
    with contextlib.redirect_stdout(_Clock()) as clock, warnings.catch_warnings():  # type: ignore[type-var]
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_points)
    return clock.found


def mini_batch(clusters: int, seed: int) -> list[list[float]]:
    """[seconds, inertia] at the end."""
    model = MiniBatchKMeans(
        clusters, init="random", n_init=1, random_state=seed, compute_labels=False
    )
    begin = time.perf_counter()
    model.fit(_points)
    seconds = time.perf_counter() - begin
    return [[seconds, float(-model.score(_points))]]


if __name__ == "__main__":
    serve(load, faiss_cpu, scikit_learn, mini_batch)
