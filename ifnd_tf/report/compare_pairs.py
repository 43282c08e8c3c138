"""How good must pairs be? The gain over the baseline against the precision and recall of pairs."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ifnd_tf.report.charts import Series, line_chart
from ifnd_tf.report.compare_ranks import measures
from ifnd_tf.report.compare_statistics import Runs, mean_of_known
from ifnd_tf.report.html import Chart
from ifnd_tf.run.metric_names import describe

# Measures with a chart of their own: the first of each kind, so of few labels the fewest.
_SHOWN = (r"knn_top1", r"linear_\d")


def pair_charts(summary: Mapping[str, Any], runs: Runs) -> dict[str, Chart]:
    """A chart for each treatment of `--detector=noisy_oracle`, and each of two measures.

    A line joins the precisions of one recall; its band is the 95% interval of the mean gain,
    paired by seed. Where it lies above 0, treating pairs of that quality helps. Variants whose
    detector found pairs itself stand beside the lines of their own treatment, as single points.

    Args:
        summary: as `compare_statistics.summarise` makes it.
        runs: variant -> seed -> its run.

    Returns:
        Charts by a name for files; none without such variants.
    """
    flags = {name: next(iter(seeds.values())).flags for name, seeds in runs.items() if seeds}
    noisy = {name: own for name, own in flags.items() if own.get("detector") == "noisy_oracle"}
    counted = measures(summary["protocols"])
    shown = filter(None, (next((m for m in counted if re.match(s, m)), None) for s in _SHOWN))
    treatments = list(dict.fromkeys(own["treatment"] for own in noisy.values()))
    found = {}
    for metric, (number, treatment) in itertools.product(shown, enumerate(treatments, start=1)):
        lines = [*_lines(summary, noisy, treatment, metric)]
        lines += _found(summary, flags, runs, treatment, metric)
        title = f"{treatment}: gain in {_short(metric)}"
        chart = line_chart(title, lines, x_label="precision of pairs", percent=True)
        found[f"pairs_{metric}_{number}"] = chart
    return found


def _short(metric: str) -> str:
    """The metric in words that leave room for a treatment in a chart's title."""
    return describe(metric).text.replace(" accuracy", "").replace(" of the labels", "")


def _lines(
    summary: Mapping[str, Any], noisy: Mapping[str, Mapping[str, str]], treatment: str, metric: str
) -> Iterator[Series]:
    """A line for each recall."""
    own = {name: each for name, each in noisy.items() if each["treatment"] == treatment}
    for recall in sorted({float(each["oracle_recall"]) for each in own.values()}):
        points = sorted(
            (float(each["oracle_precision"]), *gain)
            for name, each in own.items()
            if float(each["oracle_recall"]) == recall
            if (gain := _gain(summary, name, metric))
        )
        low, high = (
            [mean + sign * (half if math.isfinite(half) else math.nan) for _, mean, half in points]
            for sign in (-1, 1)
        )
        means = [(precision, mean) for precision, mean, _ in points]
        yield Series(f"recall {recall:.0%}", means, low, high)
    precisions = [float(each["oracle_precision"]) for each in own.values()]
    yield Series("no gain", [(end(precisions), 0.0) for end in (min, max)], dashed=True)


def _found(
    summary: Mapping[str, Any], flags: Mapping[str, Mapping[str, str]], runs: Runs, treatment: str,
    metric: str,
) -> Iterator[Series]:  # fmt: skip
    """A point for each variant with this treatment that found pairs itself, at their precision."""
    for name, own in flags.items():
        if own.get("detector") in ("none", "noisy_oracle") or own["treatment"] != treatment:
            continue
        precision, recall = (
            mean_of_known(run.result(f"detection_{each}") for run in runs[name].values())
            for each in ("precision", "recall")
        )
        gain = _gain(summary, name, metric)
        if precision is not None and gain:
            known = "" if recall is None else f", recall {recall:.0%}"
            yield Series(f"{name}{known}", [(precision, gain[0])])


def _gain(summary: Mapping[str, Any], name: str, metric: str) -> tuple[float, float] | None:
    """The mean gain over the baseline, and half its interval; None where there is none."""
    found = summary["variants"][name]["metrics"].get(metric, {}).get("difference")
    return found and (found["mean"], found["half_width"])
