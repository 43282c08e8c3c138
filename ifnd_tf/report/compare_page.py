"""A comparison of variants as files: JSON, Markdown, charts and one self-contained page."""

import json
import math
import textwrap
from typing import Any

from ifnd_tf.report import compare_statistics, html
from ifnd_tf.report.charts import Series, line_chart
from ifnd_tf.report.compare_statistics import Difference, Runs
from ifnd_tf.report.html import Chart, Section, Table
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe

_NONE = "n/a"
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
# Ends and controls of a comparison, about which it concludes nothing.
_ENDS = ("none", "oracle", "random")


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
    parts = filter(None, (f"# {title}", conclusion(summary), _markdown(summary)))
    directory.write("compare.md", "\n\n".join(parts) + "\n")
    directory.write("compare.html", _page(title, summary, charts))
    for name, chart in charts.items():
        directory.write(f"compare_{name}.svg", chart.svg + "\n")
    return _terminal(summary)


def conclusion(summary: dict[str, Any]) -> str:
    """One sentence on the variant that is compared: where it differs clearly from the baseline."""
    baseline = summary["baseline"]
    compared = [name for name in summary["variants"] if name != baseline]
    ends = [v for v in compared if summary["variants"][v]["flags"].get("detector") in _ENDS]
    name = next((name for name in [*compared, *ends] if name not in ends), next(iter(ends), None))
    found = {
        metric: Difference(**entry["difference"])
        for metric, entry in (summary["variants"][name]["metrics"] if name else {}).items()
        if metric in summary["protocols"] and "difference" in entry
    }
    if not found:
        return ""
    if max(each.seeds for each in found.values()) < 2:
        return f"One seed cannot tell {name} from {baseline}: differences have no interval yet."
    clear = {metric: each for metric, each in found.items() if each.clear}
    if not clear:
        return f"No protocol shows a clear difference of {name} from {baseline}."
    largest = sorted(clear.items(), key=lambda item: -abs(item[1].mean))[:3]
    told = [f"{describe(metric).text} {_change(each)}" for metric, each in largest]
    better = sum(each.mean > 0 for each in clear.values())
    return (
        f"Against {baseline}, {name} is clearly better in {better} and clearly worse in "
        f"{len(clear) - better} of {len(found)} protocols; the largest differences: "
        f"{'; '.join(told)}."
    )


def _change(found: Difference) -> str:
    low, high = (100 * (found.mean + sign * found.half_width) for sign in (-1, 1))
    return f"{100 * found.mean:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"


def _terminal(summary: dict[str, Any]) -> str:
    """The conclusion and the first table."""
    table = next(iter(_tables(summary).values()))
    lines = [table.caption, *("  " + line for line in table.aligned())]
    return "\n".join([*textwrap.wrap(conclusion(summary), 98), *lines])


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
        conclusion=conclusion(summary),
        variants=len(summary["variants"]),
        seeds=seeds,
        differences=_NOTE,
    )


def _tables(summary: dict[str, Any]) -> dict[str, Table]:
    """The tables by a short name."""
    protocols, variants = summary["protocols"], summary["variants"]
    # A row for each protocol, which fits a narrow screen.
    means = [
        [describe(protocol).text, *(_mean(v["metrics"].get(protocol)) for v in variants.values())]
        for protocol in protocols
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
            ["", *variants],
            "Percent, mean ± standard deviation over seeds",
            numbers=range(1, 1 + len(variants)),
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
    return f"{_share(entry['mean'])} ± {_share(entry['std'])}" if entry else _NONE


def _paired(entry: dict[str, Any]) -> list[str]:
    found, closed = entry["difference"], entry.get("gap_closed_interval")
    low, high = (found["mean"] + sign * found["half_width"] for sign in (-1, 1))
    return [
        f"{found['mean'] * 100:+.2f} ± {_share(found['std'])}",
        _NONE if math.isnan(low) else f"{low * 100:+.2f} to {high * 100:+.2f}",
        f"{found['better']} of {found['seeds']}",
        f"{entry['gap_closed']:.0%} ({closed[0]:.0%} to {closed[1]:.0%})" if closed else _NONE,
    ]


def _share(value: float) -> str:
    return _NONE if math.isnan(value) else f"{value * 100:.2f}"


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
