"""The main results of a run, for the terminal."""

from collections.abc import Mapping
from typing import Any

from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import warnings

_SHOWN = (
    "knn_top1", "knn_top5", "linear_top1", "linear_10pct_top1", "linear_1pct_top1",
    "finetune_10pct_top1", "finetune_1pct_top1", "transfer_knn_top1", "transfer_linear_top1",
    "transfer_svm_map_voc07", "untrained_knn_top1", "raw_pixel_knn_top1", "cluster_nmi",
    "detection_precision", "detection_recall", "train_images_per_second", "epochs", "wall_seconds",
)  # fmt: skip


def main_results(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(words, value) of the main entries of results.json, as far as they are there."""
    found = {name: results[name] for name in _SHOWN if isinstance(results.get(name), int | float)}
    return [
        (describe(n).text, duration(v) if n == "wall_seconds" else describe(n).show(v))
        for n, v in found.items()
    ]


def summary(experiment: str, path: str, results: Mapping[str, Any]) -> str:
    """The closing table.

    Args:
        experiment: the run's name.
        path: the run directory.
        results: the content of results.json.
    """
    rows = main_results(results)
    if not rows:
        return f"results in {path}"
    left, right = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"  {words.ljust(left)}  {value.rjust(right)}" for words, value in rows]
    lines += [f"warning: {text}" for text in warnings(results)]
    return "\n".join([f"{experiment}: results in {path}", *lines])
