"""The tables of a comparison: ranking, results, paired differences, settings."""

import math
from typing import Any

from ifnd_tf.report.compare_ranks import measures
from ifnd_tf.report.compare_statistics import Difference
from ifnd_tf.report.html import Table
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.words import counted

_NONE = "n/a"
# More variants than this have a row each in the table of results. Fewer have a column each, and a
# row for each protocol, which fits a narrow screen.
_MANY = 6
_MEASURES = ("precision", "recall", "F1")
_FOUND = [
    f"{kind}_{measure.lower()}" for kind in ("detection", "treatment") for measure in _MEASURES
]


def tables(summary: dict[str, Any]) -> dict[str, Table]:
    """The tables by a short name."""
    protocols, variants = summary["protocols"], summary["variants"]
    means = [
        [describe(protocol).text, *(_mean(v["metrics"].get(protocol)) for v in variants.values())]
        for protocol in protocols
    ]
    header = ["", *variants]
    if len(variants) > _MANY:
        header, *means = map(list, zip(header, *means, strict=True))
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
        "Ranking": _ranking(summary),
        "Results": Table(
            means,
            header,
            "Percent, mean ± standard deviation over seeds",
            numbers=range(1, len(header)),
        ),
        "Pairs": _found_pairs(summary),
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


def _ranking(summary: dict[str, Any]) -> Table:
    """A row for each variant, the best first; none where one variant alone is ranked."""
    ranking = summary["ranking"]
    plain = ranking.get(summary["baseline"], {}).get("step_seconds")
    rows = []
    for name, own in ranking.items():
        rank, against, seconds = own["rank"], own["against_baseline"], own["step_seconds"]
        rows.append(
            [
                f"{name} (true labels)" if own["supervised"] else name,
                f"{rank['mean']:.2f}",
                _NONE if rank["low"] is None else f"{rank['low']:.2f} to {rank['high']:.2f}",
                _points(Difference(**against)) if against else "",
                _gap(own),
                f"{1000 * seconds:.1f} ms" if seconds else _NONE,
                f"{seconds / plain:.2f}" if seconds and plain else _NONE,
            ]
        )
    header = [
        "variant", "mean rank", "95% interval", f"against {summary['baseline']}", "gap closed",
        "a step", f"x {summary['baseline']}",
    ]  # fmt: skip
    measured = counted(len(measures(summary["protocols"])), "measure")
    caption = f"Mean rank over {measured}; gain and cost"
    return Table(rows if len(rows) > 1 else [], header, caption, numbers=range(1, len(header)))


def _found_pairs(summary: dict[str, Any]) -> Table:
    """A row for each variant of which some false negatives, right or wrong, are known."""
    rows = []
    for name, variant in summary["variants"].items():
        found = [variant["metrics"].get(metric, {}).get("mean") for metric in _FOUND]
        found.append(variant["masked_share"] or None)
        if any(share is not None for share in found):
            rows.append([name, *(_NONE if share is None else f"{share:.1%}" for share in found)])
    kinds = (f"{kind}: {measure}" for kind in ("labels", "step") for measure in _MEASURES)
    caption = (
        "False negatives found, by the labels of the last refresh and in the steps of the last "
        "epoch; negatives masked"
    )
    header = ["variant", *kinds, "masked"]
    return Table(rows, header, caption, numbers=range(1, len(header)))


def _points(found: Difference) -> str:
    low, high = (100 * (found.mean + sign * found.half_width) for sign in (-1, 1))
    return f"{100 * found.mean:+.1f}" + ("" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def _gap(entry: dict[str, Any]) -> str:
    closed = entry.get("gap_closed_interval")
    return f"{entry['gap_closed']:.0%} ({closed[0]:.0%} to {closed[1]:.0%})" if closed else _NONE


def _mean(entry: dict[str, Any] | None) -> str:
    return f"{_share(entry['mean'])} ± {_share(entry['std'])}" if entry else _NONE


def _paired(entry: dict[str, Any]) -> list[str]:
    found = entry["difference"]
    low, high = (found["mean"] + sign * found["half_width"] for sign in (-1, 1))
    return [
        f"{found['mean'] * 100:+.2f} ± {_share(found['std'])}",
        _NONE if math.isnan(low) else f"{low * 100:+.2f} to {high * 100:+.2f}",
        f"{found['better']} of {found['seeds']}",
        _gap(entry),
    ]


def _share(value: float) -> str:
    return _NONE if math.isnan(value) else f"{value * 100:.2f}"
