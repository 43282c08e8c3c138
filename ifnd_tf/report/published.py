"""The published ten seeds of the digits, to stand beside a run with the same settings."""

import importlib.resources
import json
from typing import Any

from ifnd_tf.report.html import Table
from ifnd_tf.run.metric_names import describe, number_text
from ifnd_tf.run.records import RunRecords

_VARIANTS = {"none": "no detection", "ifnd": "detection", "oracle": "true labels"}


def read() -> dict[str, Any]:
    """published.json: "date", "seeds", "flags", and "metrics": name -> variant -> [mean, std]."""
    return packaged("published.json")


def packaged(name: str) -> Any:
    """A JSON file that comes with the report."""
    file = importlib.resources.files("ifnd_tf.report").joinpath(name)
    return json.loads(file.read_text("utf-8"))


def beside(run: RunRecords) -> Table:
    """The run beside the ten seeds; without rows where its settings are others."""
    found = read()
    treated = run.flags.get("treatment", "eliminate") != "eliminate"  # no flag of those runs
    other = treated or run.given_encoder
    if other or any(run.flags.get(name) != text for name, text in found["flags"].items()):
        return Table([])
    rows = [
        [
            describe(name).text,
            number_text(value, percent=True),
            *(f"{100 * mean:.1f} ± {100 * std:.1f}%" for mean, std in variants.values()),
        ]
        for name, variants in found["metrics"].items()
        if (value := run.result(name)) is not None
    ]
    return Table(
        rows,
        ["", "this run", *(_VARIANTS[name] for name in next(iter(found["metrics"].values())))],
        f"Beside {found['seeds']} seeds of the same settings, of {found['date']}",
        numbers=range(1, 2 + len(_VARIANTS)),
    )
