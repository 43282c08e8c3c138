"""What a run directory holds, read for the report."""

import json
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.errors import UserError


class RunFiles(NamedTuple):
    """The records of one run; each empty where the run has not written it yet.

    Attributes:
        path: the run directory.
        flags: name to value, from config.flags.
        metrics: one dict per epoch, from metrics.jsonl.
        results: name to value, from results.json.
        detection: one dict per refresh, from detection/, in order.
        unreadable: rows (index, name, reason) of images that could not be read.
    """

    path: str
    flags: dict[str, str]
    metrics: list[dict[str, Any]]
    results: dict[str, Any]
    detection: list[dict[str, Any]]
    unreadable: list[list[str]]

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

    def result(self, name: str) -> float | None:
        """One number of results.json; None where it is missing or no number."""
        value = self.results.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value)


def read_run(path: str) -> RunFiles:
    """Reads a run directory, on disk or gs://.

    Raises:
        UserError: if there is nothing of a run in it, or a file is damaged.
    """

    def text(name: str) -> str:
        file = f"{path.rstrip('/')}/{name}"
        return tf.io.gfile.GFile(file).read() if tf.io.gfile.exists(file) else ""

    flags = dict(
        line.removeprefix("--").split("=", 1)
        for line in text("config.flags").splitlines()
        if line.startswith("--") and "=" in line
    )
    refreshes = sorted(tf.io.gfile.glob(f"{path.rstrip('/')}/detection/*.json"))
    name = ""
    try:
        name = "metrics.jsonl"
        metrics = [json.loads(line) for line in text(name).splitlines() if line.strip()]
        name = "results.json"
        results = json.loads(text(name) or "{}")
        detection = []
        for name in refreshes:
            detection.append(json.loads(tf.io.gfile.GFile(name).read()))
    except json.JSONDecodeError as error:
        raise UserError(
            f"Expected JSON in {name} of run directory {path!r}. Received: {error}; remove the "
            "damaged file or run the stage that writes it again."
        ) from error
    if not metrics and not results:
        raise UserError(
            f"Expected a run with metrics.jsonl or results.json to report on. Received: {path!r}, "
            "which has neither; train first (--mode=train,report) or correct --workdir."
        )
    unreadable = [line.split("\t") for line in text("unreadable.tsv").splitlines()[1:]]
    return RunFiles(path, flags, metrics, results, detection, unreadable)
