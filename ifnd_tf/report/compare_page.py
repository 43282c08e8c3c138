"""A comparison of variants as files: JSON, Markdown, charts and one self-contained page."""

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from ifnd_tf.report import compare_ranks, compare_statistics, html
from ifnd_tf.report.charts import COLOURS, Series, line_chart
from ifnd_tf.report.compare_pairs import pair_charts
from ifnd_tf.report.compare_statistics import Runs
from ifnd_tf.report.compare_tables import tables
from ifnd_tf.report.compare_verdict import verdict
from ifnd_tf.report.html import Chart, Section
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe

_RANKING = (
    "All variants of a seed are ranked in each measure, 1 being the best, and the ranks averaged; "
    "of clusterings NMI alone counts. Interval of the rank: 95%, by bootstrap over the seeds, too "
    "narrow for three or fewer. Against the baseline: points in the mean of the measures, "
    "paired by seed, with a 95% interval (Student's t) that holds for all variants without labels "
    "at once (Bonferroni); beyond chance where it leaves 0 out. Gap closed: of the mean of the "
    "measures. A step: its time as measured, also while other jobs ran; compare it within one "
    "command only."
)
_PAIRS = (
    "Mean gain over the baseline, where pairs are made of true labels with this precision and "
    "recall (--detector=noisy_oracle); bands: 95% intervals, paired by seed. Single points are "
    "detectors, at the precision of their last refresh."
)
# Name of the chart -> its section, title and metric in metrics.jsonl.
_CURVES = {
    "knn": ("Learning", "kNN accuracy while training", "online_knn_top1"),
    "loss": ("Learning", "Contrastive loss", "loss"),
    "precision": ("Detection", "Precision of detected pairs", "detection_precision"),
    "recall": ("Detection", "Recall of detected pairs", "detection_recall"),
    "treated": ("Detection", "Precision of treated pairs", "treatment_precision"),
    "masked": ("Detection", "Negatives masked", "masked_share"),
}
_NOTE = (
    "Differences are paired by seed, since a seed has the same data order, views and initial "
    "weights in every variant. Interval: 95% confidence interval of the mean difference (Student's "
    "t). Gap closed: the share of the gap between no detection and detection by true labels, with "
    "its 95% interval (Fieller's); n/a where the confidence interval of the gap includes 0, and "
    "for one seed."
)


def write(path: str, title: str, runs: Runs, notes: Sequence[str] = ()) -> str:
    """Writes compare.json, compare.md, compare_*.svg and compare.html.

    Args:
        path: the comparison's directory, local or gs://.
        title: its name.
        runs: variant -> seed -> its run, of the complete ones; the first variant is the baseline.
        notes: sentences that follow the verdict.

    Returns:
        The first table, aligned for the terminal.

    Raises:
        UserError: if the directory cannot be written.
    """
    summary = compare_statistics.summarise(runs)
    summary["ranking"] = compare_ranks.ranking(summary, runs)
    summary["verdict"] = [*verdict(summary), *notes]
    pairs, charts = pair_charts(summary, runs), _charts(_shown(summary, runs))
    directory = RunDirectory(path, flags={})
    directory.write("compare.json", json.dumps(_finite(summary), indent=2) + "\n")
    parts = [f"# {title}", *summary["verdict"], _markdown(summary)]
    directory.write("compare.md", "\n\n".join(parts) + "\n")
    directory.write("compare.html", _page(title, summary, charts, list(pairs.values())))
    for name, chart in {**charts, **pairs}.items():
        directory.write(f"compare_{name}.svg", chart.svg + "\n")
    return _terminal(summary)


def _terminal(summary: dict[str, Any]) -> str:
    """The verdict and the first two tables."""
    lines = textwrap.wrap(" ".join(summary["verdict"]), 98)
    for table in list(tables(summary).values())[:2]:
        lines += [table.caption, *("  " + line for line in table.aligned())]
    return "\n".join(lines)


def _shown(summary: dict[str, Any], runs: Runs) -> Runs:
    """The runs that the curves show: of many variants the baseline, the best, and true labels."""
    if len(runs) <= len(COLOURS):
        return runs
    ranked = list(summary["ranking"])
    supervised = [name for name in ranked if summary["ranking"][name]["supervised"]]
    best = [name for name in ranked if name not in supervised]
    names = dict.fromkeys([summary["baseline"], *supervised[:1], *best])
    shown = list(names)[: len(COLOURS)]
    return {name: seeds for name, seeds in runs.items() if name in shown}


def _markdown(summary: dict[str, Any]) -> str:
    """The tables of `compare.md`."""
    parts = []
    for table in tables(summary).values():
        lines = [table.header, ["---"] * len(table.header), *table.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        parts.append(f"{table.caption}\n\n{text}")
    return "\n\n".join([*parts, _RANKING, _NOTE])


def _charts(runs: Runs) -> dict[str, Chart]:
    """The curves over epochs, as far as there are numbers; bands: one standard deviation."""
    found = {}
    for name, (_, title, metric) in _CURVES.items():
        series = []
        for variant, seeds in runs.items():
            points = [
                (epoch, each.mean, 0.0 if math.isnan(each.std) else each.std)
                for epoch, each in compare_statistics.curve(seeds, metric)
            ]
            means = [(epoch, mean) for epoch, mean, _ in points]
            low, high = ([mean + sign * std for _, mean, std in points] for sign in (-1, 1))
            series.append(Series(variant, means, low, high))
        found[name] = line_chart(title, series, percent=describe(metric).percent)
    return {name: chart for name, chart in found.items() if chart.svg}


def _page(
    title: str, summary: dict[str, Any], charts: dict[str, Chart], pairs: Sequence[Chart]
) -> str:
    counts = {len(variant["seeds"]) for variant in summary["variants"].values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    # A section for each table: alone in it, a table gets the page's whole width.
    sections = [Section(name, name, tables=[table]) for name, table in tables(summary).items()]
    sections.insert(1, Section("Pairs", "How good must pairs be?", charts=pairs))
    for short, heading in (("Learning", "Learning"), ("Detection", "Detection of false negatives")):
        own = [chart for name, chart in charts.items() if _CURVES[name][0] == short]
        sections.append(Section(short, heading, charts=own))
    return html.render(
        "compare.html",
        title=f"{title}: comparison",
        sections=[section for section in sections if not section.empty],
        verdict=summary["verdict"],
        variants=len(summary["variants"]),
        seeds=seeds,
        notes={"ranking": _RANKING, "differences": _NOTE, "pairs": _PAIRS},
    )


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
