"""The run directory as main.py writes and reads it, and the state from which a run continues.

A counterpart of `ifnd_tf.run.directory`, which needs TensorFlow for gs://.
"""

import json
import os
import socket
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError
from jax_runner.artifact import Artifact

STATE = "state.npz"


class RunDirectory:
    """One run's files.

    Args:
        path: the directory; made if it does not exist.
        artifact: what is run.

    Raises:
        UserError: the directory holds a run of another artifact, or another kind of run.
    """

    def __init__(self, path: Path, artifact: Artifact):
        self.path, self._digest = path, artifact.digest
        self._flags = artifact.manifest["flags"]
        if (path / "checkpoints").exists() and not (path / STATE).exists():
            raise UserError(
                f"--workdir: expected a new directory, or one of a lowered run. Received: {path}, "
                "a run of main.py; choose another."
            )
        path.mkdir(parents=True, exist_ok=True)

    def claim(self) -> None:
        """Writes config.flags."""
        lines = (f"--{name}={value}\n" for name, value in sorted(self._flags.items()))
        self._write("config.flags", "".join(lines))

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, one per epoch."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl."""
        self._write("metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def results(self) -> dict[str, Any]:
        """The content of results.json; empty if there is none."""
        path = self.path / "results.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write_results(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Merges `results` into results.json and returns all of them."""
        merged = {**self.results(), **results}
        self._write("results.json", json.dumps(merged, indent=2, sort_keys=True) + "\n")
        return merged

    def write_status(self, state: str, text: str) -> None:
        """Writes the last update for --mode=watch; see `RunDirectory.write_status`."""
        sign = {"state": state, "text": text, "time": time.time()}
        sign |= {"host": socket.gethostname(), "pid": os.getpid()}
        self._write("status.json", json.dumps(sign) + "\n")

    def write_detection(
        self, epoch: int, statistics: Mapping[str, Any], **arrays: np.ndarray
    ) -> None:
        """One refresh: statistics as JSON, arrays as NPZ."""
        (self.path / "detection").mkdir(exist_ok=True)
        self._write(f"detection/{epoch:04d}.json", json.dumps(dict(statistics), indent=2) + "\n")
        np.savez_compressed(self.path / "detection" / f"{epoch:04d}.npz", **arrays)  # type: ignore[arg-type]

    def save(self, arrays: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """Writes all that the next session needs, whole or not at all.

        Args:
            arrays: by name; device arrays are fetched.
            notes: numbers and texts, as JSON.
        """
        packed = {name: np.asarray(value) for name, value in arrays.items()}
        packed["notes"] = np.array(json.dumps({**notes, "manifest": self._digest}))
        with open(self.path / f"{STATE}.new", "wb") as file:
            np.savez(file, **packed)  # type: ignore[arg-type]
        os.replace(self.path / f"{STATE}.new", self.path / STATE)

    def restore(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The arrays and notes that `save` wrote; None if there are none.

        Raises:
            UserError: the state belongs to another manifest.
        """
        if not (self.path / STATE).exists():
            return None
        return read_state(self.path / STATE, self._digest)

    def _write(self, name: str, text: str) -> None:
        new = self.path / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.path / name)


def weight_files(stem: Path) -> list[Path]:
    """The files stem.weights.0.npz, ... that `jax_runner.accelerator` wrote for a run."""
    return sorted(stem.parent.glob(f"{stem.name}.weights.*.npz"))


def read_weights(stem: Path) -> dict[str, np.ndarray]:
    """The query network's float16 values, by the variables' numbers in the manifest."""
    arrays: dict[str, np.ndarray] = {}
    for path in weight_files(stem):
        with np.load(path) as stored:
            arrays.update(stored.items())
    return arrays


def read_state(path: Path, digest: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A state file's arrays and notes.

    Args:
        path: of the file.
        digest: the manifest that it must belong to, see `Artifact`.

    Raises:
        UserError: it belongs to another, or is no state file.
    """
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with open(path, "rb") as file, np.load(file) as stored:
            arrays = dict(stored.items())
        notes = json.loads(str(arrays.pop("notes")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: expected a state that jax_runner wrote. Received: {error}."
        ) from error
    if notes.pop("manifest") != digest:
        raise UserError(
            f"{path}: expected a state of this manifest. Received: one of another; choose another "
            "--workdir, or the folder that the run was begun with."
        )
    return arrays, notes
