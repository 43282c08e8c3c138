"""A refresh of the pseudo-labels: embed, cluster, accept, as the detection callback does it."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ifnd_tf.detection import metrics, pseudo_labels
from ifnd_tf.errors import UserError
from jax_runner.artifact import Artifact
from jax_runner.compiled import Compiled, State
from jax_runner.devices import join
from jax_runner.images import Images
from jax_runner.run_directory import RunDirectory

Phase = Callable[[str], contextlib.AbstractContextManager]


class Refresh:
    """Finds labels when the manifest says so.

    Args:
        artifact: what is run.
        compiled: gives a program by name.
        data: the training images.
        run: where each refresh is written.

    Attributes:
        centroids: of each K, from which the next clustering starts; empty before the first.
    """

    def __init__(
        self,
        artifact: Artifact,
        compiled: Callable[[str], Compiled],
        data: Images,
        run: RunDirectory,
    ):
        self._manifest, self._program = artifact.manifest, compiled
        self._data, self._run = data, run
        self.centroids: dict[str, Any] = {}

    def due(self, epoch: int) -> bool:
        """Whether labels are refreshed before `epoch`, counted from 0."""
        return str(epoch) in self._manifest["refreshes"]

    def __call__(self, epoch: int, state: State, phase: Phase) -> dict[str, float]:
        """Writes the label variable, and returns what the epoch's logs say of it."""
        rate = self._manifest["refreshes"][str(epoch)]
        settings = self._manifest["settings"]
        if settings["detector"] == "oracle":
            labels = self._data.labels[None]
            confidence = (labels >= 0).astype(np.float32)
            statistics: dict[str, Any] = {}
        else:
            labels, confidence, statistics = self._found(rate, state, phase)
        if settings["detector"] == "random":
            order = np.random.default_rng(settings["seed"]).permutation(labels.shape[1])
            labels, confidence = labels[:, order], confidence[:, order]
        place = self._manifest["labels"]
        before, state[place] = np.asarray(state[place]), self._data.devices.put(labels)
        if self._manifest.get("confidence") is not None:
            state[self._manifest["confidence"]] = self._data.devices.put(confidence)
        return self._report(epoch, rate, before, labels, confidence, statistics)

    def _found(
        self, rate: float, state: State, phase: Phase
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        with phase("embedding"):
            points, index = self._points(state)
        with phase("clustering"):
            levels = [self._clustered(k, points, index, state) for k in self._manifest["clusters"]]
        labels = [
            pseudo_labels.accept(
                level["confidence"],
                level["assignments"],
                rate=rate,
                scope=self._manifest["settings"]["acceptance_scope"],
            )
            for level in levels
        ]
        counts = [level["counts"] for level in levels]
        statistics = {
            "clusters": self._manifest["clusters"],
            "empty_clusters": int(sum(np.sum(c == 0) for c in counts)),
            "largest_cluster": [int(c.max()) for c in counts],
            "smallest_cluster": [int(c.min()) for c in counts],
            "inertia": [float(level["inertia"]) for level in levels],
            "reseeded": int(sum(level["reseeded"] for level in levels)),
        }
        return np.stack(labels), np.stack([level["confidence"] for level in levels]), statistics

    def _points(self, state: State) -> tuple[Any, Any]:
        """All embeddings [R n, D] and their examples [R n], -1 for none, on the devices."""
        import jax.numpy as jnp

        program, count = self._program("embed"), len(self._data.labels)
        if program.inputs and all("state" in entry for entry in program.inputs):  # kept keys
            found = program(state)
            points, index = found["points"], found["index"]
        else:
            size = self._manifest["settings"]["batch_size"]
            parts = [program(state, images=b)["points"] for b in self._data.own_batches(size)]
            devices, rows = self._data.devices, np.arange(len(self._data.pixels), dtype=np.int32)
            points = join(devices, parts, len(rows) // len(devices))
            index = devices.put(np.where(rows < count, rows, -1), sharded=True)
        bad = int((~jnp.isfinite(points).all(axis=1) & (index >= 0)).sum())
        if bad:
            raise UserError(
                f"expected finite embeddings. Received: {bad} of {count} examples with NaN or "
                "infinity, so training has diverged; lower --learning_rate, or warm it up."
            )
        return points, index

    def _clustered(self, clusters: int, points: Any, index: Any, state: State) -> dict[str, Any]:
        """One level's clusters as NumPy arrays; its centroids stay on the devices."""
        name = str(clusters)
        given = {"points": points, "index": index}
        if name not in self.centroids:
            self.centroids[name] = self._program(f"seeds_{name}")(state, **given)["centroids"]
        found = self._program(f"kmeans_{name}")(state, **given, centroids=self.centroids[name])
        centroids = found.pop("centroids")
        level = {key: np.asarray(value) for key, value in found.items()}
        for key in ("assignments", "confidence"):
            level[key] = level[key][: len(self._data.labels)]
        if level["counts"].any():
            self.centroids[name] = centroids
        else:  # kept keys before the first step: centroids of nothing are no place to start from
            del self.centroids[name]
        return level

    def _report(
        self,
        epoch: int,
        rate: float,
        before: np.ndarray,
        labels: np.ndarray,
        confidence: np.ndarray,
        found: dict[str, Any],
    ) -> dict[str, float]:
        statistics = {
            "epoch": epoch,
            "acceptance_rate": rate,
            "accepted_share": float(np.mean(labels >= 0)),
            **found,
        }
        if np.any(before >= 0):  # After nothing, every pair is new.
            statistics["label_churn"] = metrics.label_churn(before, labels)
        if np.any(self._data.labels >= 0):
            statistics |= metrics.detection_statistics(labels, self._data.labels)
        half = confidence.astype(np.float16)
        self._run.write_detection(epoch, statistics, labels=labels, confidence=half)
        return {
            f"detection_{name}": float(value)
            for name, value in statistics.items()
            if isinstance(value, (int, float)) and name != "epoch"
        }
