"""A comparison of variants as files: JSON, Markdown, charts and one self-contained page."""

import json
import math
from typing import Any

from ifnd_tf.report import compare_statistics, html
from ifnd_tf.report.charts import Series, line_chart
from ifnd_tf.report.compare_statistics import Runs
from ifnd_tf.report.html import Chart, Section, Table
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe

# Name of the chart -> its section, title and metric in metrics.jsonl.
_CURVES = {
    "knn": ("Learning", "kNN accuracy while training", "online_knn_top1"),
    "loss": ("Learning", "Contrastive loss", "loss"),
    "precision": ("Detection", "Precision of detected pairs", "detection_precision"),
    "recall": ("Detection", "Recall of detected pairs", "detection_recall"),
    "masked": ("Detection", "Negatives masked", "masked_share"),
}
_NOTE = (
    "Differences are paired by seed, since a seed has the same data order, views and initial "
    "weights in every variant. Interval: 95% confidence interval of the mean difference (Student's "
    "t). Gap closed: the share of the gap between no detection and detection by true labels; not "
    "given where the confidence interval of the gap includes 0."
)


def write(path: str, title: str, runs: Runs) -> str:
    """Writes compare.json, compare.md, compare_*.svg and compare.html.

    Args:
        path: the comparison's directory, local or gs://.
        title: its name.
        runs: variant -> seed -> its run, of the complete ones; the first variant is the baseline.

    Returns:
        The first table, aligned for the terminal.

    Raises:
        UserError: if the directory cannot be written.
    """
    summary, charts = compare_statistics.summarise(runs), _charts(runs)
    directory = RunDirectory(path, flags={})
    directory.write("compare.json", json.dumps(_finite(summary), indent=2) + "\n")
    directory.write("compare.md", f"# {title}\n\n{_markdown(summary)}\n")
    directory.write("compare.html", _page(title, summary, charts))
    for name, chart in charts.items():
        directory.write(f"compare_{name}.svg", chart.svg + "\n")
    return _terminal(summary)


def _terminal(summary: dict[str, Any]) -> str:
    """The first table with a row for each protocol, which fits a narrow screen."""
    table = next(iter(_tables(summary).values()))
    header, *rows = zip(table.header, *table.rows, strict=True)
    turned = Table(rows, header, numbers=range(1, len(header)))
    return "\n".join([table.caption, *("  " + line for line in turned.aligned())])


def _markdown(summary: dict[str, Any]) -> str:
    """The tables of `compare.md`."""
    parts = []
    for table in _tables(summary).values():
        lines = [table.header, ["---"] * len(table.header), *table.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        parts.append(f"{table.caption}\n\n{text}")
    return "\n\n".join([*parts, _NOTE])


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


def _page(title: str, summary: dict[str, Any], charts: dict[str, Chart]) -> str:
    counts = {len(variant["seeds"]) for variant in summary["variants"].values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    # A section for each table: alone in it, a table gets the page's whole width.
    sections = [Section(name, name, tables=[table]) for name, table in _tables(summary).items()]
    for short, heading in (("Learning", "Learning"), ("Detection", "Detection of false negatives")):
        own = [chart for name, chart in charts.items() if _CURVES[name][0] == short]
        sections.append(Section(short, heading, charts=own))
    return html.render(
        "compare.html",
        title=f"{title}: comparison",
        sections=[section for section in sections if not section.empty],
        variants=len(summary["variants"]),
        seeds=seeds,
        differences=_NOTE,
    )


def _tables(summary: dict[str, Any]) -> dict[str, Table]:
    """The tables by a short name."""
    protocols, variants = summary["protocols"], summary["variants"]
    means = [
        [name, *(_mean(variant["metrics"].get(protocol)) for protocol in protocols)]
        for name, variant in variants.items()
    ]
    pairs = [
        [describe(protocol).text, name, *_paired(variant["metrics"][protocol])]
        for protocol in protocols
        for name, variant in variants.items()
        if "difference" in variant["metrics"].get(protocol, {})
    ]
    flags = sorted({flag for variant in variants.values() for flag in variant["flags"]})
    settings = [
        [name, " ".join(map(str, v["seeds"])), *(v["flags"].get(flag, "") for flag in flags)]
        for name, v in variants.items()
    ]
    tables = {
        "Results": Table(
            means,
            ["variant", *(describe(protocol).text for protocol in protocols)],
            "Percent, mean ± standard deviation over seeds",
            numbers=range(1, 1 + len(protocols)),
        ),
        "Differences": Table(
            pairs,
            ["protocol", "variant", "difference", "95% interval", "seeds above", "gap closed"],
            f"Difference from {summary['baseline']}, paired by seed, in percentage points",
            numbers=range(2, 6),
        ),
        "Settings": Table(
            settings,
            ["variant", "seeds", *(f"--{flag}" for flag in flags)],
            "Settings that differ",
            code=range(2, 2 + len(flags)),
        ),
    }
    return {name: table for name, table in tables.items() if table.rows}


def _mean(entry: dict[str, Any] | None) -> str:
    return f"{_share(entry['mean'])} ± {_share(entry['std'])}" if entry else ""


def _paired(entry: dict[str, Any]) -> list[str]:
    found, closed = entry["difference"], entry.get("gap_closed")
    low, high = (found["mean"] + sign * found["half_width"] for sign in (-1, 1))
    return [
        f"{found['mean'] * 100:+.2f} ± {_share(found['std'])}",
        "-" if math.isnan(low) else f"{low * 100:+.2f} to {high * 100:+.2f}",
        f"{found['better']} of {found['seeds']}",
        "" if closed is None else f"{closed:.0%}",
    ]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value * 100:.2f}"


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
