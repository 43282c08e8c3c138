"""k-means of a sample of the points: how much worse is it than of all, and how much cheaper?

    python -m examples.sampled_clustering [--json PATH]

Points around directions of a unit sphere, as embeddings of images in classes are. Compared:
k-means on all points; on a sample, with all points assigned afterwards; and the sample's
centroids searched through groups of centroids instead of one by one. Quality is that of
the pairs found: does a pair in one cluster share its direction (precision), and is a pair
that shares it in one cluster (recall)?
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering.kmeans import initial_centroids, kmeans
from ifnd_tf.detection.metrics import detection_statistics


class Case(NamedTuple):
    """One way to cluster: labels [N] and the multiply-adds it took, in units of N K D."""

    name: str
    labels: np.ndarray
    work: float


def points(num: int, directions: int, width: int, noise: float, seed: int) -> Any:
    """Unit vectors [N, D] around random directions, and which direction each came from [N]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(directions, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    truth = rng.integers(0, directions, num).astype(np.int32)
    x = centres[truth] + rng.normal(size=(num, width)) * noise / math.sqrt(width)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), truth


def centroids_of(x: np.ndarray, clusters: int, iterations: int) -> tf.Tensor:
    """k-means of `x`: centroids [K, D]."""
    index = tf.range(len(x))
    start = initial_centroids(x, index, num_clusters=clusters, seed=0)
    found = kmeans(x, index, start, num_iterations=iterations, confidence_temperature=0.2)
    return found.centroids


def assign(x: np.ndarray, centroids: tf.Tensor) -> np.ndarray:
    """The nearest centroid of each row, by comparing with all."""
    index = tf.range(len(x))
    found = kmeans(x, index, centroids, num_iterations=0, confidence_temperature=0.2)
    return found.assignments.numpy()


def assign_by_groups(x: np.ndarray, centroids: tf.Tensor, probes: int) -> tuple[np.ndarray, float]:
    """The nearest centroid among those of the `probes` nearest groups of centroids.

    Returns:
        The assignments [N] and the share of the N x K products that were needed.
    """
    fine = centroids.numpy()
    groups = round(math.sqrt(len(fine)))
    coarse = centroids_of(fine, groups, 20)
    member = assign(fine, coarse)
    near = np.argsort(-(x @ coarse.numpy().T), axis=1)[:, :probes]
    best = np.full(len(x), -np.inf, np.float32)
    labels = np.zeros(len(x), np.int32)
    products = len(x) * groups
    for group in range(groups):
        rows = np.flatnonzero((near == group).any(axis=1))
        inside = np.flatnonzero(member == group)
        if len(rows) == 0 or len(inside) == 0:
            continue
        scores = x[rows] @ fine[inside].T - 0.5 * np.sum(fine[inside] ** 2, axis=1)
        own = scores.argmax(axis=1)
        value = scores[np.arange(len(rows)), own]
        better = value > best[rows]
        best[rows[better]], labels[rows[better]] = value[better], inside[own[better]]
        products += len(rows) * len(inside)
    return labels, products / (len(x) * len(fine))


def cases(x: np.ndarray, clusters: int, share: float, iterations: int, probes: int) -> list[Case]:
    """Clusters `x` in each way."""
    full = centroids_of(x, clusters, iterations)
    few = x[np.random.default_rng(1).permutation(len(x))[: round(share * len(x))]]
    sampled = centroids_of(few, clusters, iterations)
    grouped, products = assign_by_groups(x, sampled, probes)
    return [
        Case("all points", assign(x, full), iterations + 1.0),
        Case(f"{share:.0%} sample", assign(x, sampled), share * iterations + 1.0),
        Case(f"{share:.0%} sample, groups", grouped, share * iterations + products),
    ]


def main() -> None:
    """Prints one line per way of clustering."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    parser.add_argument("--num", type=int, default=60_000, help="Points N.")
    parser.add_argument("--clusters", type=int, default=600, help="K, and the true directions.")
    parser.add_argument("--sample", type=float, default=0.1, help="Share of the points sampled.")
    options = parser.parse_args()
    x, truth = points(options.num, options.clusters, 64, 1.2, 0)
    results = []
    for case in cases(x, options.clusters, options.sample, iterations=20, probes=3):
        found = detection_statistics(case.labels[None], truth)
        pairs = {key: float(found[key]) for key in ("precision", "recall", "f1")}
        results.append({"name": case.name, "work": case.work, **pairs})
        print(
            f"{case.name:20s} work {case.work:6.2f} N K D   precision {pairs['precision']:.3f}   "
            f"recall {pairs['recall']:.3f}   F1 {pairs['f1']:.3f}"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
