"""What the names in results.json and metrics.jsonl mean to a reader."""

import math
from typing import NamedTuple


class Metric(NamedTuple):
    """How a number is shown.

    Attributes:
        text: what it is, in a few words.
        percent: whether it is a share.
        unit: what follows the number.
    """

    text: str
    percent: bool = False
    unit: str = ""

    def show(self, value: float) -> str:
        """A value with its unit."""
        return number_text(value, self.percent) + self.unit


# Of the names <name>_top1 and <name>_top5.
_ACCURACIES = {
    "knn": "kNN accuracy",
    "linear": "linear probe accuracy",
    "linear_10pct": "linear probe accuracy, 10% of the labels",
    "linear_1pct": "linear probe accuracy, 1% of the labels",
    "finetune": "fine-tuning accuracy",
    "finetune_10pct": "fine-tuning accuracy, 10% of the labels",
    "finetune_1pct": "fine-tuning accuracy, 1% of the labels",
}
_SHARES = {
    "cluster_purity": "k-means on features: purity",
    "detection_precision": "precision of detected pairs",
    "detection_recall": "recall of detected pairs",
    "detection_f1": "F1 of detected pairs",
    "detection_union_precision": "precision, union of levels",
    "detection_union_recall": "recall, union of levels",
    "detection_union_f1": "F1, union of levels",
    "detection_purity": "pseudo-labels: purity",
    "detection_accepted_share": "accepted pseudo-labels",
    "detection_acceptance_rate": "acceptance rate",
    "detection_label_churn": "detected pairs changed since the last refresh",
    "masked_share": "negatives masked",
    "svm_map_voc07": "SVM mAP as on VOC07",
}
_NUMBERS = {
    "cluster_nmi": "k-means on features: NMI with classes",
    "cluster_ami": "k-means on features: AMI with classes",
    "detection_nmi": "pseudo-labels: NMI with classes",
    "detection_empty_clusters": "empty clusters",
    "detection_embedded": "images embedded for the last refresh",
    "embedding_std": "standard deviation of embeddings (0: collapsed)",
    "effective_rank": "effective rank of embeddings",
    "uniformity": "uniformity (lower is more uniform)",
    "alignment": "alignment (lower is closer)",
    "positive_similarity": "cosine of two views of an image",
    "train_images_per_second": "training speed",
    "images_per_second": "training speed",
    "wall_seconds": "wall time",
    "train_seconds": "training time",
    "evaluate_seconds": "evaluation time",
    "train_loss": "training loss, last epoch",
    "random_loss": "loss at chance",
    "num_examples": "training images",
    "num_parameters": "parameters",
}
_PREFIXES = {
    "untrained_": "untrained encoder: ",
    "raw_pixel_": "raw pixels: ",
    "online_": "while training: ",
    "transfer_": "transfer: ",
    "health_": "",
    "final_": "at the end: ",
}
_UNITS = {"_per_second": " images/s", "_seconds": " s"}


def describe(name: str) -> Metric:
    """How to show the metric `name`; an unknown one is shown under its own name."""
    stem, _, rank = name.rpartition("_")
    if stem in _ACCURACIES and rank in ("top1", "top5"):
        return Metric(_ACCURACIES[stem] + (", top-5" if rank == "top5" else ""), percent=True)
    if name in _SHARES:
        return Metric(_SHARES[name], percent=True)
    if name in _NUMBERS:
        unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
        return Metric(_NUMBERS[name], unit=unit)
    for prefix, text in _PREFIXES.items():
        if name.startswith(prefix):
            inner = describe(name.removeprefix(prefix))
            return inner._replace(text=text + inner.text)
    if name.startswith("seconds_"):
        return Metric(name.removeprefix("seconds_") + " time", unit=" s")
    return Metric(name.replace("_", " "), percent=name.endswith(("_top1", "_top5", "_share")))


def number_text(value: float, percent: bool = False) -> str:
    """A number with three significant digits or so."""
    if not math.isfinite(value):
        return str(value)
    if percent:
        return f"{value:.1%}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
