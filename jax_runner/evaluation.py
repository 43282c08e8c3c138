"""kNN and linear probes on the query encoder's features."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jax_runner.artifact import Artifact
from jax_runner.compiled import Compiled, State
from jax_runner.images import Images
from jax_runner.probe import few_labels, linear_probe


def features(
    program: Compiled, state: State, images: Images, batch: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """Float32 [n, F] of all images, or of some rows."""
    parts = [program(state, images=b)["features"] for b in images.batches(batch, rows)]
    count = len(images.labels) if rows is None else len(rows)
    return np.concatenate([np.asarray(part) for part in parts])[:count]


def nearest_neighbours(
    program: Compiled,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Iterator[tuple[str, float]]:
    """Weighted kNN of test features and labels in the memory of the training ones.

    Yields:
        ("knn_top1", share in [0, 1]) and, with more than five classes, ("knn_top5", share).
    """
    memory, labels = (program.devices.put(value) for value in train)
    size = next(e["shape"][0] for e in program.inputs if e["name"] == "truth")
    ranks = []
    for start in range(0, len(test[1]), size):
        places = np.minimum(np.arange(start, start + size), len(test[1]) - 1)
        found = program(
            [], memory=memory, labels=labels, queries=test[0][places], truth=test[1][places]
        )
        ranks.append(np.asarray(found["rank"]))
    rank = np.concatenate(ranks)[: len(test[1])]
    yield "knn_top1", float(np.mean(rank < 1))
    if max(train[1].max(), test[1].max()) >= 5:
        yield "knn_top5", float(np.mean(rank < 5))


class Evaluation:
    """The protocols on one data set.

    Args:
        artifact: what is run.
        compiled: gives a program by name.
        train, test: the images, all labelled.
    """

    def __init__(
        self,
        artifact: Artifact,
        compiled: Callable[[str], Compiled],
        train: Images,
        test: Images,
    ):
        self._settings, self._program = artifact.manifest["settings"], compiled
        self._train, self._test = train, test
        self._subsets = artifact.label_subsets()

    def online(self, state: State) -> dict[str, float]:
        """kNN on a sample of the training images, as the online check draws it."""
        settings, count = self._settings, len(self._train.labels)
        order = np.random.default_rng(settings["seed"]).permutation(np.arange(count))
        few = np.sort(order[: settings["online_knn_examples"]])
        known = self._features(state, self._train, few), self._train.labels[few]
        tested = self._features(state, self._test), self._test.labels
        found = nearest_neighbours(self._program("online_knn"), known, tested)
        return {f"online_{name}": value for name, value in found}

    def protocols(self, state: State, names: Sequence[str]) -> dict[str, float]:
        """The results of knn, linear and few_labels, as far as they are asked for."""
        settings, results = self._settings, dict[str, float]()
        train, test = (
            (self._features(state, images), images.labels) for images in (self._train, self._test)
        )
        if "knn" in names:
            results |= dict(nearest_neighbours(self._program("knn"), train, test))
        if "linear" in names:
            results |= dict(
                linear_probe(
                    train,
                    test,
                    solver=settings["linear_solver"],
                    epochs=settings["linear_epochs"],
                    learning_rate=settings["linear_learning_rate"],
                    seed=settings["seed"],
                )
            )
        if "few_labels" in names:
            results |= dict(few_labels(train, test, self._subsets))
        return results

    def _features(self, state: State, images: Images, rows: Any = None) -> np.ndarray:
        size = self._settings["batch_size"]
        return features(self._program("features"), state, images, size, rows)
