"""The closing table of a run, for the terminal."""

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


def summary(experiment: str, path: str, results: Mapping[str, Any]) -> str:
    """The closing table.

    Args:
        experiment: the run's name.
        path: the run directory.
        results: the content of results.json.
    """
    rows = [
        (describe(n).text, duration(v) if n == "wall_seconds" else describe(n).show(v))
        for n in _SHOWN
        if (v := results.get(n)) is not None
    ]
    if not rows:
        return f"results in {path}"
    width = max(len(words) for words, _ in rows)
    lines = [f"  {words.ljust(width)}  {value:>8}" for words, value in rows]
    lines += [f"warning: {text}" for text in warnings(results)]
    return "\n".join([f"{experiment}: results in {path}", *lines])
