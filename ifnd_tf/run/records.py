"""What a run directory holds, read for the report."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run import text_files


class RunFiles(NamedTuple):
    """The records of one run; each empty where the run has not written it yet.

    Attributes:
        path: the run directory.
        flags: name to value, from config.flags.
        metrics: one dict per epoch, from metrics.jsonl.
        results: name to value, from results.json.
        detection: one dict per refresh, from detection/, in order.
        unreadable: rows (index, name, reason) of images that could not be read.
        status: the last sign of life, see `RunDirectory.write_status`.
        versions: what it was run with, from the head of config.flags.
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
        known = [record for record in self.metrics if record.get(name) is not None]
        return [(record["epoch"], float(record[name])) for record in known]

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
        """A flag that is a whole number; 0 where it is missing or none."""
        text = self.flags.get(name, "")
        return int(text) if text.isdecimal() else 0

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


# What status.json holds; of a running run, all of it.
_STATUS = {"state": str, "text": str, "time": int | float, "host": str, "pid": int}


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no names and values")
    return value


def _record(text: str, numbers: bool = False) -> dict[str, Any]:
    """An object with its epoch, and perhaps nothing but numbers."""
    record = _object(text)
    wrong = [value for value in record.values() if not isinstance(value, int | float)]
    if not isinstance(record.get("epoch"), int) or (numbers and wrong):
        raise ValueError("no record of an epoch")
    return record


def warnings(results: Mapping[str, Any], metrics: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """All that a run warned of: while training, and when it was evaluated.

    Args:
        results: of results.json.
        metrics: of metrics.jsonl, for losses that were not finite.
    """
    said = [results.get(name) or [] for name in ("training_warnings", "health_warnings")]
    found = [str(text) for texts in said if isinstance(texts, list) for text in texts]
    if not all(math.isfinite(record.get("loss", 0.0)) for record in metrics):
        found.append("The loss was not finite in at least one epoch.")
    return found


def read_run(path: str) -> RunFiles:
    """Reads a run directory, on disk or gs://.

    Raises:
        UserError: if no run has begun in it, or a file is damaged.
    """

    def text(name: str) -> str:
        return text_files.read(f"{path.rstrip('/')}/{name}")

    lines = text("config.flags").splitlines()
    flags = dict(
        line.removeprefix("--").split("=", 1)
        for line in lines
        if line.startswith("--") and "=" in line
    )
    versions = lines[0].removeprefix("#").strip() if lines and lines[0].startswith("#") else ""
    refreshes = text_files.matching(f"{path.rstrip('/')}/detection/*.json")
    name = ""
    try:
        name = "metrics.jsonl"
        metrics = [_record(line, numbers=True) for line in text(name).splitlines() if line.strip()]
        name = "results.json"
        results = _object(text(name) or "{}")
        name = "status.json"
        status = _object(text(name) or "{}")
        if any(key in status and not isinstance(status[key], _STATUS[key]) for key in _STATUS) or (
            status.get("state") == "running" and not _STATUS.keys() <= status.keys()
        ):
            raise ValueError("no sign of life")
        detection = []
        for name in refreshes:
            detection.append(_record(text_files.read(name)))
    except ValueError as error:
        raise UserError(
            f"Expected JSON in {name} of run directory {path!r}. Received: {error}; remove the "
            "damaged file or run the stage that writes it again."
        ) from error
    if not flags and not metrics and not results:
        raise UserError(
            f"Expected a run directory, with config.flags in it. Received: {path!r}, in which no "
            f"run has begun; train first, or correct --workdir.{did_you_mean_path(path)}"
        )
    unreadable = [line.split("\t") for line in text("unreadable.tsv").splitlines()[1:]]
    return RunFiles(path, flags, metrics, results, detection, unreadable, status, versions)
