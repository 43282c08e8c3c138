"""The names in results.json and metrics.jsonl in words, and their numbers as text."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric in words, with the format of its numbers.

    Attributes:
        text: its name in a few words.
        percent: whether it is a share.
        unit: written after the number.
    """

    text: str
    percent: bool = False
    unit: str = ""

    def show(self, value: float) -> str:
        """A value with its unit."""
        return number_text(value, self.percent) + self.unit


# Protocols in the names <protocol>_top1, <protocol>_1pct_top1, <protocol>_5shot_top1, and _top5.
_PROTOCOLS = {"knn": "kNN", "linear": "linear probe", "finetune": "fine-tuning"}
_LABELS = r"([\d.]+)(pct|shot)"
_ACCURACY = re.compile(rf"({'|'.join(_PROTOCOLS)})(?:_{_LABELS})?_top([15])")
# Metrics whose own name is no good description; shares are shown in percent.
_SHARES = {
    "precision": "precision of pairs",
    "recall": "recall of pairs",
    "f1": "F1 of pairs",
    "chance_precision": "precision of pairs by chance",
    "sampled_precision": "precision of pairs, on a sample",
    "neighbour_precision": "precision of as many nearest neighbours, on the sample",
    "purity": "purity",
    "nmi": "NMI with classes",
    "ami": "AMI with classes",
    "acceptance_rate": "acceptance rate",
    "label_churn": "pairs changed since the last refresh",
    "masked_share": "negatives masked",
    "svm_map_voc07": "SVM mAP as on VOC07",
}
_NUMBERS = {
    "embedded": "images embedded for the last refresh",
    "embedding_std": "standard deviation of embeddings (0: collapsed)",
    "effective_rank": "effective rank of embeddings",
    "uniformity": "uniformity (lower is more uniform)",
    "alignment": "alignment (lower is closer)",
    "positive_similarity": "cosine of two views of an image",
    "train_images_per_second": "training speed",
    "random_loss": "loss at chance",
    "num_examples": "training images",
    "num_evaluation_examples": "evaluation images",
    "num_parameters": "parameters",
    "embedded_images": "images",
    "embedded_clusters": "clusters",
    "embedded_exact_duplicates": "exact duplicates",
    "embedded_near_duplicates": "near duplicates",
}
_PREFIXES = {
    "untrained_": "untrained encoder: ",
    "raw_pixel_": "raw pixels: ",
    "online_": "while training: ",
    "transfer_": "transfer: ",
    "health_": "",
    "detection_": "detection: ",
    "treatment_": "treatment: ",
    "union_": "union of levels: ",
    "cluster_": "k-means on features: ",
}
_UNITS = {"_per_second": " images/s", "_seconds": " s"}


def describe(name: str) -> Metric:
    """The metric `name` in words; an unknown one keeps its own name."""
    if accuracy := _ACCURACY.fullmatch(name):
        protocol, share, unit, rank = accuracy.groups()
        words = "% of the labels" if unit == "pct" else f" label{'s' * (share != '1')} a class"
        labels = f", {share}{words}" if share else ""
        top = ", top-5" if rank == "5" else ""
        return Metric(f"{_PROTOCOLS[protocol]} accuracy{labels}{top}", percent=True)
    if name in _SHARES:
        return Metric(_SHARES[name], percent=True)
    unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
    if name in _NUMBERS:
        return Metric(_NUMBERS[name], unit=unit)
    for prefix, text in _PREFIXES.items():
        if name.startswith(prefix):
            inner = describe(name.removeprefix(prefix))
            return inner._replace(text=text + inner.text)
    text = name.replace("_seconds", "_time").replace("_", " ")
    return Metric(text, percent=name.endswith(("_top1", "_top5", "_share")), unit=unit)


def of_fewest_labels(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern such as "linear_*_top1" fits, that of the fewest labels first."""

    def labels(match: re.Match) -> tuple[str, float]:
        number, unit = match.groups()
        return unit, float(number)

    fits = re.compile(pattern.replace("*", _LABELS))
    return [match.string for match in sorted(filter(None, map(fits.fullmatch, names)), key=labels)]


def number_text(value: float, percent: bool = False) -> str:
    """A number with three significant digits or so."""
    if not math.isfinite(value):
        return str(value)
    if percent:
        return f"{value:.1%}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
