"""The report's charts of detection: quality of pairs, sizes and confidence of clusters."""

from collections.abc import Sequence

import numpy as np

from ifnd_tf.report.charts import Series, line_chart
from ifnd_tf.report.html import Chart, Section
from ifnd_tf.report.number_sections import numbers
from ifnd_tf.run.records import RunRecords

# Points of a curve over sorted values: the same shape for 10 clusters and for 10,000.
_QUANTILES = 60


def level_names(run: RunRecords, labels: np.ndarray) -> list[str]:
    """The name of each level: its number of clusters where that is known.

    Args:
        run: the run's records.
        labels: int [L, N] of the last refresh; L = 0 before any.
    """
    clusters: list[int] = next(
        (r["clusters"] for r in reversed(run.detection) if "clusters" in r), []
    )
    counts = [len(r["level_precision"]) for r in run.detection if "level_precision" in r]
    return [
        f"K = {clusters[level]:,}" if level < len(clusters) else f"level {level + 1}"
        for level in range(max(len(clusters), len(labels), *counts, 0))
    ]


def quality_section(run: RunRecords, names: Sequence[str]) -> Section:
    """Quality of the detected pairs, refresh by refresh, at the levels of these names."""
    rate = Series("acceptance rate", run.refreshes("acceptance_rate"))

    def quality(name: str) -> Chart:
        series = _by_level(run, f"level_{name}", names)
        series.append(Series("union of levels", run.refreshes(f"union_{name}"), dashed=True))
        title = f"{name.capitalize()} of detected pairs"
        return line_chart(title, series, percent=True, beneath=rate)

    agreement = [Series("NMI", run.refreshes("nmi")), Series("purity", run.refreshes("purity"))]
    amounts = [
        Series("labels accepted", run.refreshes("accepted_share")),
        Series("negatives masked", run.values("masked_share") if run.detection else []),
    ]
    churn = [Series("detected pairs changed", run.refreshes("label_churn"))]
    return Section(
        "Detection",
        "Detection of false negatives",
        charts=[
            quality("precision"),
            quality("recall"),
            line_chart("Acceptance and masking", amounts, percent=True),
            line_chart("Change since the last refresh", churn, percent=True),
            line_chart("Accepted labels against true classes", agreement),
        ],
        tables=[
            numbers(run, "At the last refresh", starts=("detection_", "treatment_", "masked_"))
        ],
    )


def cluster_sizes(
    run: RunRecords, names: Sequence[str], labels: np.ndarray, confidence: np.ndarray
) -> list[Chart]:
    """Charts of sizes and confidences, sorted.

    Args:
        run: the run's records.
        names: of the levels.
        labels, confidence: [L, N], of the last refresh; L = 0 before any.
    """
    if not len(labels):
        return []
    counts = [np.unique(own[own >= 0], return_counts=True)[1] for own in labels]
    sizes = [_sorted(name, each) for name, each in zip(names, counts, strict=False)]
    confidences = [_sorted(name, each) for name, each in zip(names, confidence, strict=False)]
    largest = _by_level(run, "largest_cluster", names)
    return [
        line_chart("Accepted images per cluster", sizes, x_label="% of clusters, largest first"),
        line_chart("Confidence", confidences, x_label="% of images, most confident first"),
        line_chart("Largest cluster, images", largest),
    ]


def _by_level(run: RunRecords, statistic: str, names: Sequence[str]) -> list[Series]:
    return [Series(name, run.refreshes(statistic, level)) for level, name in enumerate(names)]


def _sorted(name: str, values: np.ndarray) -> Series:
    descending = np.sort(values.astype(np.float64))[::-1]
    places = np.linspace(0, len(descending) - 1, min(_QUANTILES, len(descending)))
    last = max(1, len(descending) - 1)
    points = [(round(100 * p / last, 1), float(descending[round(p)])) for p in places]
    return Series(name, points)
