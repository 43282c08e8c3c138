"""Reads a run directory: for the stages, the report, the comparison, the model card and watch."""

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run import files
from ifnd_tf.run.renamed import renamed

PICTURES = "report/pictures.json"
# The entries of status.json; all of them are there while the run is running.
_STATUS = {"state": str, "text": str, "time": int | float, "host": str, "pid": int}


class RunReader:
    """Reads one run's files, on disk or gs://, afresh at each call.

    Args:
        path: the run directory.
    """

    def __init__(self, path: str):
        self.path = path

    def file(self, *parts: str) -> str:
        """The path of a file or folder in the run directory."""
        return "/".join([self.path.rstrip("/"), *parts])

    def flags(self) -> dict[str, str]:
        """Name to value, from config.flags."""
        lines = self._text("config.flags").splitlines()
        pairs = [line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line]
        return dict(renamed(*pair) for pair in pairs)

    def versions(self) -> str:
        """Versions and machine, from the first line of config.flags."""
        first = self._text("config.flags").partition("\n")[0]
        return first[1:].strip() if first.startswith("#") else ""

    def metrics(self) -> list[dict[str, Any]]:
        """One record of numbers per epoch, None where not measured, from metrics.jsonl."""
        return self._objects("metrics.jsonl", _is_metrics, lines=True)

    def results(self) -> dict[str, Any]:
        """Name to value, from results.json."""
        return self._object("results.json")

    def status(self) -> dict[str, Any]:
        """The last state that the run wrote to status.json, see `RunDirectory.write_status`."""
        return self._object("status.json", _is_status)

    def detection(self) -> list[dict[str, Any]]:
        """The statistics of each refresh, from detection/*.json, in order."""
        return [
            record
            for name in self._names("detection", "*.json")
            for record in self._objects(name, _is_record)
        ]

    def latest_detection(self, before: int) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest refresh before an epoch.

        Args:
            before: epochs trained; later refreshes were left by a process that died.

        Returns:
            Its epoch (from 0) and the arrays that `write_detection` got, or None.

        Raises:
            UserError: if the file is damaged.
        """
        found = [
            (int(stem), name)
            for name in self._names("detection", "*.npz")
            if (stem := os.path.basename(name)[:-4]).isdecimal() and int(stem) < before
        ]
        if not found:
            return None
        epoch, name = max(found)
        try:
            arrays = dict(np.load(io.BytesIO(self._bytes(name))))  # never unpickles
            if any(arrays[key].ndim != 2 for key in ("labels", "confidence")):
                raise ValueError("other arrays")
            return epoch, arrays
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"Expected the labels of a refresh in {self.file(name)}. Received: {error}; remove "
                "the file, and the one before it serves."
            ) from error

    def unreadable(self) -> list[list[str]]:
        """Rows (index, name, reason) of unreadable images, from unreadable.tsv."""
        return [line.split("\t") for line in self._text("unreadable.tsv").splitlines()[1:]]

    def data(self) -> bytes:
        """Names and sizes of the data's files, from data.tsv.gz; see `data.contents`."""
        return self._bytes("data.tsv.gz")

    def true_labels(self) -> np.ndarray | None:
        """int32 [N] labels of a stream, read while training; None if missing or damaged."""
        try:
            return np.load(io.BytesIO(self._bytes("true_labels.npy")))  # never unpickles
        except (ValueError, OSError, EOFError):
            return None

    def pictures(self) -> dict[str, Any]:
        """The pictures of the report as JSON holds them; see `report.pictures`."""
        return self._object(PICTURES)

    def _object(self, name: str, valid: Callable[[dict], bool] = lambda value: True) -> dict:
        return next(iter(self._objects(name, valid)), {})

    def _objects(self, name: str, valid: Callable[[dict], bool], lines: bool = False) -> list[dict]:
        """The JSON objects of a file, one in all or one a line; none without the file."""
        text = self._text(name)
        try:
            parts = text.splitlines() if lines else [text]
            found = [json.loads(part) for part in parts if part.strip()]
            if not all(isinstance(each, dict) and valid(each) for each in found):
                raise ValueError("other values than a run writes")
            return found
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"Expected JSON in {self.file(name)}. Received: {error}; remove the damaged file "
                "or run the stage that writes it again."
            ) from error

    def _text(self, name: str) -> str:
        """A file's text, bytes that are not UTF-8 replaced; empty if there is no file."""
        return self._bytes(name).decode("utf-8", "replace")

    def _bytes(self, name: str) -> bytes:
        return files.content(self.file(name))

    def _names(self, folder: str, pattern: str) -> list[str]:
        """The files of a folder that match a pattern, sorted, as names in the run directory."""
        return [f"{folder}/{name}" for name in files.names(self.file(folder), pattern)]


class RunRecords(NamedTuple):
    """The records of one run, read at one time; each is empty if the run has not written it yet.

    The attributes are those of `RunReader`.
    """

    path: str
    flags: dict[str, str]
    metrics: list[dict[str, Any]]
    results: dict[str, Any]
    detection: list[dict[str, Any]]
    unreadable: list[list[str]]
    status: dict[str, Any]
    versions: str = ""

    def values(self, name: str) -> list[tuple[float, float]]:
        """(epoch, value) of one metric, for the epochs that have it."""
        return [(r["epoch"], float(r[name])) for r in self.metrics if r.get(name) is not None]

    def refreshes(self, name: str, level: int | None = None) -> list[tuple[float, float]]:
        """(epochs trained, value) of one detection statistic, or of one level of a list."""
        found = []
        for record in self.detection:
            value = record.get(name)
            if level is not None:
                value = value[level] if isinstance(value, list) and level < len(value) else None
            if isinstance(value, int | float):
                found.append((record["epoch"], float(value)))
        return found

    def whole(self, name: str) -> int:
        """A flag that is a whole number; 0 where it is missing or no number."""
        text = self.flags.get(name, "")
        return int(text) if text.isdecimal() else 0

    @property
    def epochs_done(self) -> int:
        """Epochs trained, as far as metrics.jsonl or else results.json tells."""
        return int(self.metrics[-1]["epoch"] if self.metrics else self.result("epochs") or 0)

    @property
    def given_encoder(self) -> str:
        """The flag, with its value, that names an encoder in place of one trained here; or ""."""
        mode = self.flags.get("mode", "")
        embedded = "embed" in mode and "train" not in mode and not self.epochs_done
        names = ("saved_model", "embeddings", *["init_from"] * embedded)
        return next((f"--{n}={self.flags[n]}" for n in names if self.flags.get(n)), "")

    @property
    def warnings(self) -> list[str]:
        """See `warnings`."""
        return warnings(self.results, self.metrics)

    def result(self, name: str) -> float | None:
        """One number of results.json; None where it is missing or no number."""
        value = self.results.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value)


def read_run(path: str) -> RunRecords:
    """Reads a run directory, on disk or gs://.

    Raises:
        UserError: if no run has begun in it, or a file is damaged.
    """
    reader = RunReader(path)
    run = RunRecords(path, *(getattr(reader, name)() for name in RunRecords._fields[1:]))
    if not run.flags and not run.metrics and not run.results:
        raise UserError(
            f"Expected a run directory, with config.flags in it. Received: {path!r}, in which no "
            f"run has begun; train first, or correct --workdir.{did_you_mean_path(path)}"
        )
    return run


def warnings(results: Mapping[str, Any], metrics: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The warnings of a run: while it trained, and when it was evaluated.

    Args:
        results: of results.json.
        metrics: of metrics.jsonl, for losses that were not finite.
    """
    said = [results.get(name) or [] for name in ("training_warnings", "health_warnings")]
    found = [str(text) for texts in said if isinstance(texts, list) for text in texts]
    if not all(math.isfinite(record.get("loss") or 0.0) for record in metrics):
        found.append("The loss was not finite in at least one epoch.")
    return found


def _is_record(value: dict[str, Any]) -> bool:
    return isinstance(value.get("epoch"), int)


def _is_metrics(value: dict[str, Any]) -> bool:
    return _is_record(value) and all(isinstance(x, int | float | None) for x in value.values())


def _is_status(value: dict[str, Any]) -> bool:
    if value.get("state") == "running" and not _STATUS.keys() <= value.keys():
        return False
    return all(isinstance(value[key], kind) for key, kind in _STATUS.items() if key in value)
