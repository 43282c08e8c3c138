"""A comparison of variants as files: JSON, Markdown, pictures and one self-contained page."""

import json
import math
from typing import Any

import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.report import compare_statistics, html, number_sections
from ifnd_tf.report.charts import Series
from ifnd_tf.report.compare_statistics import Runs
from ifnd_tf.report.html import Chart, Section, Table

# Name of the picture -> title, number in metrics.jsonl, is it a share?
_CURVES = {
    "knn": ("kNN accuracy while training", "online_knn_top1", True),
    "loss": ("Contrastive loss", "loss", False),
    "precision": ("Precision of detected pairs", "detection_precision", True),
    "recall": ("Recall of detected pairs", "detection_recall", True),
    "masked": ("Negatives masked", "masked_share", True),
}
_DETECTION = ("precision", "recall", "masked")
_NOTE = (
    "Differences are taken seed by seed, since a seed has the same data order, views and initial "
    "weights in every variant; the interval is that of their mean, at 95% by Student's t. The gap "
    "is that between no detection and detection by true labels; where its own interval includes 0, "
    "no share of it is given."
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
    summary = compare_statistics.summarise(runs)
    pictures = charts(runs)
    files = {
        "compare.json": json.dumps(_finite(summary), indent=2) + "\n",
        "compare.md": f"# {title}\n\n{markdown(summary)}\n",
        "compare.html": _page(title, summary, pictures),
        **{f"compare_{name}.svg": chart.svg + "\n" for name, chart in pictures.items()},
    }
    try:
        for name, text in files.items():
            with tf.io.gfile.GFile(f"{path.rstrip('/')}/{name}", "w") as file:
                file.write(text)
    except tf.errors.OpError as error:
        raise UserError(
            f"Expected a directory that can be written. Received: {path!r} ({error})."
        ) from error
    return terminal(summary)


def terminal(summary: dict[str, Any]) -> str:
    """The first table with a row for each protocol, which fits a narrow screen."""
    table = next(iter(_tables(summary).values()))
    columns = [[text, *cells] for text, *cells in zip(table.header, *table.rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    lines = [
        "  ".join([column[0].ljust(widths[0]), *map(str.rjust, column[1:], widths[1:])])
        for column in columns
    ]
    return "\n".join([table.caption, *("  " + line for line in lines)])


def markdown(summary: dict[str, Any]) -> str:
    """The tables of `compare.md`."""
    parts = []
    for table in _tables(summary).values():
        lines = [table.header, ["---"] * len(table.header), *table.rows]
        text = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        parts.append(f"{table.caption}\n\n{text}")
    return "\n\n".join([*parts, _NOTE])


def charts(runs: Runs) -> dict[str, Chart]:
    """Name -> chart of each curve over epochs that there are numbers for; bands: one deviation."""
    found = {}
    for name, (title, metric, percent) in _CURVES.items():
        series = []
        for variant, seeds in runs.items():
            points = compare_statistics.curve(seeds, metric)
            reach = [0.0 if math.isnan(s.std) else s.std for _, s in points]
            series.append(
                Series(
                    variant,
                    [(epoch, s.mean) for epoch, s in points],
                    low=[s.mean - r for (_, s), r in zip(points, reach, strict=True)],
                    high=[s.mean + r for (_, s), r in zip(points, reach, strict=True)],
                )
            )
        for chart in number_sections.chart(title, series, percent=percent):
            found[name] = chart
    return found


def _page(title: str, summary: dict[str, Any], pictures: dict[str, Chart]) -> str:
    counts = {len(variant["seeds"]) for variant in summary["variants"].values()}
    seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    learning = [chart for name, chart in pictures.items() if name not in _DETECTION]
    detection = [chart for name, chart in pictures.items() if name in _DETECTION]
    band = "Mean over seeds; the band is one standard deviation."
    parts = [
        # A section for each table: alone in it, a table gets the page's whole width.
        *(
            Section(
                name.lower(),
                name,
                table.caption,
                notes=[_NOTE] if name == "Differences" else [],
                tables=[table._replace(caption="")],
            )
            for name, table in _tables(summary).items()
        ),
        Section("learning", "Learning", "Learning", notes=[band], charts=learning),
        Section("detection", "Detection", "Detection of false negatives", [band], charts=detection),
    ]
    return html.render(
        f"{title}: comparison",
        lead=[f"{len(summary['variants'])} variants, {seeds} seeds each."],
        sections=[part for part in parts if not part.empty],
    )


def _tables(summary: dict[str, Any]) -> dict[str, Table]:
    """The tables by a short name."""
    protocols, variants = summary["protocols"], summary["variants"]
    means = [
        [name, *(_mean(variant["metrics"].get(protocol)) for protocol in protocols)]
        for name, variant in variants.items()
    ]
    pairs = [
        [compare_statistics.HEADINGS[protocol], name, *_paired(variant["metrics"][protocol])]
        for protocol in protocols
        for name, variant in variants.items()
        if "difference" in variant["metrics"].get(protocol, {})
    ]
    tables = {
        "Results": Table(
            means,
            ["variant", *(compare_statistics.HEADINGS[name] for name in protocols)],
            "Percent, mean ± standard deviation over seeds",
            numbers=range(1, 1 + len(protocols)),
        ),
        "Differences": Table(
            pairs,
            ["", "variant", "difference", "95% interval", "seeds above", "gap closed"],
            f"Compared with {summary['baseline']} seed by seed, in points",
            numbers=range(2, 6),
        ),
        "Settings": _settings(summary),
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


def _settings(summary: dict[str, Any]) -> Table:
    flags = sorted({flag for v in summary["variants"].values() for flag in v["flags"]})
    rows = [
        [name, " ".join(map(str, v["seeds"])), *(v["flags"].get(flag, "") for flag in flags)]
        for name, v in summary["variants"].items()
    ]
    return Table(
        rows,
        ["variant", "seeds", *(f"--{flag}" for flag in flags)],
        "What differs",
        code=range(2, 2 + len(flags)),
    )


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value * 100:.2f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
