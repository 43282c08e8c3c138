"""The closing table of a run, for the terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import warnings

# What the closing table shows, in its order: key of results.json -> words, is it a share?
_TABLE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "knn_top1": ("kNN top-1", "{:.1%}".format),
    "knn_top5": ("kNN top-5", "{:.1%}".format),
    "linear_top1": ("linear probe top-1", "{:.1%}".format),
    "linear_10pct_top1": ("linear probe with 10% of the labels", "{:.1%}".format),
    "linear_1pct_top1": ("linear probe with 1% of the labels", "{:.1%}".format),
    "finetune_10pct_top1": ("fine-tuned with 10% of the labels", "{:.1%}".format),
    "finetune_1pct_top1": ("fine-tuned with 1% of the labels", "{:.1%}".format),
    "transfer_knn_top1": ("transfer: kNN top-1", "{:.1%}".format),
    "transfer_linear_top1": ("transfer: linear probe top-1", "{:.1%}".format),
    "transfer_svm_map_voc07": ("transfer: SVM's mAP as VOC07", "{:.1%}".format),
    "untrained_knn_top1": ("kNN top-1 of the untrained encoder", "{:.1%}".format),
    "raw_pixel_knn_top1": ("kNN top-1 of raw pixels", "{:.1%}".format),
    "cluster_nmi": ("NMI of k-means with the classes", "{:.3f}".format),
    "detection_precision": ("precision of detected pairs", "{:.3f}".format),
    "detection_recall": ("recall of detected pairs", "{:.3f}".format),
    "train_images_per_second": ("training images/s", "{:,.0f}".format),
    "epochs": ("epochs", "{:d}".format),
    "wall_seconds": ("wall time", duration),
}


def summary(experiment: str, path: str, results: Mapping[str, Any]) -> str:
    """The closing table.

    Args:
        experiment: the run's name.
        path: the run directory.
        results: what results.json holds.
    """
    rows = [
        (words, show(results[name])) for name, (words, show) in _TABLE.items() if name in results
    ]
    if not rows:
        return f"results in {path}"
    width = max(len(words) for words, _ in rows)
    lines = [f"  {words.ljust(width)}  {value:>8}" for words, value in rows]
    lines += [f"warning: {text}" for text in warnings(results)]
    return "\n".join([f"{experiment}: results in {path}", *lines])
