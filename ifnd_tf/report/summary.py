"""The main results of a run and the verdict on it, for the terminal."""

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from ifnd_tf.report import published
from ifnd_tf.report.html import Table
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.metric_names import describe, of_fewest_labels
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords

# The results that separate methods come first; * stands for each of --label_shares.
_SHOWN = (
    "linear_*_top1", "raw_pixel_linear_*_top1", "untrained_linear_*_top1", "finetune_*_top1",
    "cluster_nmi", "linear_top1",
    "knn_top1", "raw_pixel_knn_top1", "untrained_knn_top1", "knn_top5", "transfer_knn_top1",
    "transfer_linear_top1", "transfer_svm_map_voc07", "detection_precision", "detection_recall",
    "treatment_precision", "treatment_recall",
    "train_images_per_second", "epochs", "wall_seconds",
)  # fmt: skip
_STEPS = 2


def main_results(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(words, value) of the main entries of results.json; "-": nothing was there to measure."""
    rows = []
    names = (of_fewest_labels(name, results) if "*" in name else [name] for name in _SHOWN)
    for name in itertools.chain.from_iterable(names):
        value, metric = results.get(name), describe(name)
        if name in results and value is None:
            rows.append((metric.text, "-"))
        elif isinstance(value, int | float):
            rows.append(
                (metric.text, duration(value) if name == "wall_seconds" else metric.show(value))
            )
    return rows


def summary(experiment: str, run: RunRecords) -> str:
    """The closing table, the verdict and the next commands.

    Args:
        experiment: the run's name.
        run: its records.
    """
    rows, verdict = main_results(run.results), judge(run)
    beside = published.beside(run)
    blocks = [[f"{experiment}: results in {run.path}"]]
    if beside.rows:
        blocks.append([beside.caption, *_indented(beside.aligned())])
    told = {row[0] for row in beside.rows}
    rest = Table([row for row in rows if row[0] not in told], numbers=[1])
    if rest.rows:
        blocks.append(_indented(rest.aligned()))
    if said := [*verdict.lines(), *map("warning: {}".format, verdict.untold(run.warnings))]:
        blocks.append(["verdict", *_indented(map(_wrapped, said))])
    if steps := verdict.steps[:_STEPS]:
        typed = [line for step in steps for line in (step.command, f"    {step.purpose}")]
        blocks.append(["next", *_indented(typed)])
    return "\n\n".join("\n".join(block) for block in blocks)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 98, subsequent_indent="      ")
