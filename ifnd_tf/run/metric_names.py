"""What the names in results.json and metrics.jsonl mean to a reader."""

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


_METRICS = {
    "knn_top1": Metric("kNN accuracy", True),
    "knn_top5": Metric("kNN top-5 accuracy", True),
    "linear_top1": Metric("linear probe accuracy", True),
    "linear_top5": Metric("linear probe top-5 accuracy", True),
    "linear_10pct_top1": Metric("linear probe with 10% of the labels", True),
    "linear_10pct_top5": Metric("the same, top-5", True),
    "linear_1pct_top1": Metric("linear probe with 1% of the labels", True),
    "linear_1pct_top5": Metric("the same, top-5", True),
    "finetune_top1": Metric("fine-tuned accuracy", True),
    "finetune_top5": Metric("fine-tuned top-5 accuracy", True),
    "cluster_nmi": Metric("k-means on features: NMI with classes"),
    "cluster_ami": Metric("k-means on features: AMI with classes"),
    "cluster_purity": Metric("k-means on features: purity", True),
    "detection_precision": Metric("detected pairs that share a class (precision)", True),
    "detection_recall": Metric("same-class pairs that were detected (recall)", True),
    "detection_f1": Metric("detected pairs, F1", True),
    "detection_union_precision": Metric("precision over the union of levels", True),
    "detection_union_recall": Metric("recall over the union of levels", True),
    "detection_union_f1": Metric("F1 over the union of levels", True),
    "detection_nmi": Metric("pseudo-labels: NMI with classes"),
    "detection_purity": Metric("pseudo-labels: purity", True),
    "detection_accepted_share": Metric("accepted pseudo-labels", True),
    "detection_acceptance_rate": Metric("acceptance rate", True),
    "detection_label_churn": Metric("detected pairs changed since the last refresh", True),
    "detection_empty_clusters": Metric("empty clusters"),
    "detection_embedded": Metric("images embedded for the last detection"),
    "masked_share": Metric("negatives masked", True),
    "loss": Metric("loss"),
    "embedding_std": Metric("spread of embeddings (0: collapsed)"),
    "effective_rank": Metric("effective rank of embeddings"),
    "uniformity": Metric("uniformity (lower is more uniform)"),
    "alignment": Metric("alignment (lower is closer)"),
    "positive_similarity": Metric("cosine of an image's two views"),
    "train_images_per_second": Metric("training speed", unit=" images/s"),
    "images_per_second": Metric("training speed", unit=" images/s"),
    "wall_seconds": Metric("wall time", unit=" s"),
    "train_seconds": Metric("training time", unit=" s"),
    "evaluate_seconds": Metric("evaluation time", unit=" s"),
    "train_loss": Metric("training loss, last epoch"),
    "epochs": Metric("epochs"),
    "num_examples": Metric("training images"),
    "num_parameters": Metric("parameters"),
}
_PREFIXES = {
    "untrained_": "untrained encoder: ",
    "raw_pixel_": "raw pixels: ",
    "online_": "while training: ",
    "transfer_": "transfer: ",
    "health_": "",
    "final_": "at the end: ",
}


def describe(name: str) -> Metric:
    """How to show the metric `name`; an unknown one is shown under its own name."""
    if name in _METRICS:
        return _METRICS[name]
    for prefix, text in _PREFIXES.items():
        if name.startswith(prefix):
            inner = describe(name.removeprefix(prefix))
            return inner._replace(text=text + inner.text)
    if name.startswith("seconds_"):
        return Metric(name.removeprefix("seconds_") + " time", unit=" s")
    return Metric(name.replace("_", " "), percent=name.endswith(("_top1", "_top5", "_share")))
