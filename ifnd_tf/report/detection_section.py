"""The report's curves of detection: how good its pairs are, and how large its clusters."""

from collections.abc import Sequence

import numpy as np

from ifnd_tf.report.charts import Series
from ifnd_tf.report.html import Chart, Section
from ifnd_tf.report.number_sections import chart
from ifnd_tf.run.records import RunFiles

# Points of a curve over sorted values: the same shape for 10 clusters and for 10,000.
_QUANTILES = 60


def level_names(run: RunFiles, labels: np.ndarray | None) -> list[str]:
    """What to call each level: by its number of clusters where that is known.

    Args:
        run: the run's records.
        labels: int [L, N] of the last refresh, if it is there.
    """
    clusters: list[int] = next(
        (r["clusters"] for r in reversed(run.detection) if "clusters" in r), []
    )
    counts = [len(r["level_precision"]) for r in run.detection if "level_precision" in r]
    levels = max(len(clusters), 0 if labels is None else len(labels), *counts, 0)
    return [
        f"K = {clusters[level]:,}" if level < len(clusters) else f"level {level + 1}"
        for level in range(levels)
    ]


def quality_section(run: RunFiles, names: Sequence[str]) -> Section:
    """How good the detected pairs are, refresh by refresh, at the levels of these names."""
    levels = list(enumerate(names))
    rate = Series("acceptance rate", run.refreshes("acceptance_rate"))

    def quality(name: str) -> list[Chart]:
        series = [Series(text, run.refreshes(f"level_{name}", level)) for level, text in levels]
        series.append(Series("union of levels", run.refreshes(f"union_{name}"), dashed=True))
        title = f"{name.capitalize()} of detected pairs"
        return chart(title, series, percent=True, beneath=rate)

    agreement = [Series("NMI", run.refreshes("nmi")), Series("purity", run.refreshes("purity"))]
    amounts = [
        Series("acceptance rate", run.refreshes("acceptance_rate"), dashed=True),
        Series("labels accepted", run.refreshes("accepted_share")),
        Series("negatives masked", run.values("masked_share")),
    ]
    churn = [Series("detected pairs changed", run.refreshes("label_churn"))]
    return Section(
        "detection",
        "Detection",
        "Detection of false negatives",
        notes=[
            "A pair of images is detected when both carry the same accepted pseudo-label. "
            "Precision: detected pairs that share a true class. Recall: pairs of one true class "
            "that are detected. True labels serve these curves alone, except with the oracle."
        ],
        charts=[
            *quality("precision"),
            *quality("recall"),
            *chart("Acceptance and masking", amounts, percent=True),
            *chart("Change since the last refresh", churn, percent=True),
            *chart("Accepted labels against true classes", agreement),
        ]
        if run.detection
        else [],
    )


def cluster_sizes(
    run: RunFiles, names: Sequence[str], labels: np.ndarray | None, confidence: np.ndarray | None
) -> list[Chart]:
    """Sizes and confidences, sorted.

    Args:
        run: the run's records.
        names: of the levels.
        labels, confidence: [L, N], of the last refresh, if there was one.
    """
    if labels is None or confidence is None:
        return []
    sizes, confidences = [], []
    for name, own, sureness in zip(names, labels, confidence, strict=False):
        counts = np.bincount(own[own >= 0])
        sizes.append(_sorted(name, counts[counts > 0]))
        confidences.append(_sorted(name, sureness))
    largest = [
        Series(name, run.refreshes("largest_cluster", level)) for level, name in enumerate(names)
    ]
    return [
        *chart("Accepted images a cluster", sizes, x_label="% of clusters, largest first"),
        *chart("Confidence of the labels", confidences, x_label="% of images, surest first"),
        *chart("Largest cluster, images", largest),
    ]


def _sorted(name: str, values: np.ndarray) -> Series:
    descending = np.sort(values.astype(np.float64))[::-1]
    places = np.linspace(0, len(descending) - 1, min(_QUANTILES, len(descending)))
    return Series(
        name,
        [
            (round(100 * place / max(1, len(descending) - 1), 1), float(descending[round(place)]))
            for place in places
        ],
    )
