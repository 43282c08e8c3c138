"""What bfloat16 products, a TPU's default, do to k-means' assignments; emulated, needs no TPU.

    python -m tests.system.tpu.bfloat16 EMBEDDINGS.npz [--rows=12000]

The file is one that --detect_with takes. Three sets of its rows, centred: as they are, sent to 128
random directions, and those moved towards one point, as embeddings are early in training.
"""

import argparse
import sys
from typing import NamedTuple

import ml_dtypes
import numpy as np


class Changed(NamedTuple):
    """Share of rows with another cluster than by float64, and relative rise of the inertia."""

    rows: float
    inertia: float


def _rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def changed(points: np.ndarray, centroids: np.ndarray) -> Changed:
    """Compares `nearest_centroids` with bfloat16 factors to exact assignments.

    Args:
        points: float32 [n, D].
        centroids: float32 [K, D].
    """
    exact_points, exact = points.astype(np.float64), centroids.astype(np.float64)
    best = (exact_points @ exact.T - 0.5 * (exact**2).sum(1)).argmax(1)
    middle = centroids.mean(0)
    apart = centroids - middle
    bias = -(apart * (0.5 * apart + middle)).sum(1)
    found = (_rounded(points) @ _rounded(apart).T + bias).argmax(1)

    def inertia(assignments: np.ndarray) -> float:
        return float(((exact_points - exact[assignments]) ** 2).sum())

    return Changed(float((found != best).mean()), inertia(found) / inertia(best) - 1)


def clustered(points: np.ndarray, clusters: int, iterations: int = 5) -> np.ndarray:
    """Centroids [K, D] by a few iterations of Lloyd's algorithm from rows drawn at random."""
    centroids = points[np.random.default_rng(0).choice(len(points), clusters, replace=False)]
    for _ in range(iterations):
        own = (points @ centroids.T - 0.5 * (centroids**2).sum(1)).argmax(1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, own, points)
        counts = np.bincount(own, minlength=clusters)[:, None]
        centroids = np.where(counts > 0, sums / np.maximum(counts, 1), centroids)
    return centroids.astype(np.float32)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("embeddings")
    parser.add_argument("--rows", type=int, default=12_000, help="the first so many")
    options = parser.parse_args()
    rows = _unit(np.load(options.embeddings)["embedding"][: options.rows].astype(np.float32))
    rows = _unit(rows - rows.mean(0))
    directions = np.random.default_rng(0).normal(size=[rows.shape[1], 128])
    fewer = _unit(rows @ directions)
    early = _unit(0.1 * fewer + np.eye(128)[0])
    for name, points in {"as they are": rows, "128 wide": fewer, "early": early}.items():
        for clusters in (100, 1000):
            found = changed(points, clustered(points, clusters))
            print(
                f"{name:<12} K = {clusters:<5} {found.rows:.3%} of the rows change, "
                f"inertia +{found.inertia:.1e}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
