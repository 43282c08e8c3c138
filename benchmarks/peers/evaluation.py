"""kNN, linear probe and clustering of features by faiss and scikit-learn.

Needs `make bench-peers`; runs in that environment, driven by benchmarks.evaluation. Every function
returns its seconds and its result.
"""

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from benchmarks.peers.serving import serve

NEIGHBOURS, TEMPERATURE, RESTARTS, ITERATIONS = 200, 0.1, 5, 50
_data: dict[str, Any] = {}


def load(path: str) -> None:
    """Takes the features and labels of a .npz file: training, then test."""
    with np.load(path) as file:
        _data.update(zip(("train", "labels", "test", "own"), file.values(), strict=True))


def _timed(function: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, float(result)


def _voted(cosines: np.ndarray, nearest: np.ndarray) -> float:
    """The accuracy of weighted votes."""
    weights = np.exp((cosines - cosines.max(1, keepdims=True)) / TEMPERATURE)
    classes = int(_data["labels"].max()) + 1
    votes = np.zeros([len(nearest), classes])
    np.add.at(votes, (np.arange(len(nearest))[:, None], _data["labels"][nearest]), weights)
    return float(np.mean(votes.argmax(1) == _data["own"]))


def faiss_knn() -> tuple[float, float]:
    """Exact search, then the votes."""

    def call() -> float:
        index = faiss.IndexFlatIP(_data["train"].shape[1])
        index.add(_data["train"])
        return _voted(*index.search(_data["test"], NEIGHBOURS))

    return _timed(call)


def sklearn_knn() -> tuple[float, float]:
    """Brute-force search, then the votes."""

    def call() -> float:
        model = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(_data["train"])
        distances, nearest = model.kneighbors(_data["test"])
        return _voted(1 - distances**2 / 2, nearest)  # of unit vectors

    return _timed(call)


def sklearn_probe() -> tuple[float, float]:
    """Logistic regression on standardised features."""

    def call() -> float:
        scaler = StandardScaler().fit(_data["train"])
        model = LogisticRegression(C=1.0, max_iter=1000)
        model.fit(scaler.transform(_data["train"]), _data["labels"])
        return model.score(scaler.transform(_data["test"]), _data["own"])

    return _timed(call)


def sklearn_clustering() -> tuple[float, float]:
    """k-means++ and Lloyd, several times."""

    def call() -> float:
        model = KMeans(
            int(_data["labels"].max()) + 1, n_init=RESTARTS, max_iter=ITERATIONS, tol=0,
            random_state=0,
        )  # fmt: skip
        return normalized_mutual_info_score(_data["labels"], model.fit_predict(_data["train"]))

    return _timed(call)


def faiss_clustering() -> tuple[float, float]:
    """Lloyd from random points, several times, on all points."""

    def call() -> float:
        train = _data["train"]
        model = faiss.Kmeans(
            train.shape[1], int(_data["labels"].max()) + 1, niter=ITERATIONS, nredo=RESTARTS,
            seed=1, max_points_per_centroid=len(train),
        )  # fmt: skip
        model.train(train)
        found = model.index.search(train, 1)[1][:, 0]
        return normalized_mutual_info_score(_data["labels"], found)

    return _timed(call)


if __name__ == "__main__":
    serve(load, faiss_knn, sklearn_knn, sklearn_probe, sklearn_clustering, faiss_clustering)
