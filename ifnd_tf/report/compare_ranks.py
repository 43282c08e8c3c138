"""Ranks of variants over several measures: one number that accuracies and NMI can share."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ifnd_tf.report.compare_statistics import Runs, difference, ends, gap_closed, mean_of_known
from ifnd_tf.run.records import RunRecords

# These say the same as NMI, which would count three times.
_SAME_AS_NMI = ("cluster_ami", "cluster_purity")
_RESAMPLES = 2000


class MeanRank(NamedTuple):
    """A variant's rank, averaged over measures and seeds; 1 is the best.

    Attributes:
        mean: the average.
        low, high: its 95% interval, by bootstrap over the seeds; None for one seed.
        by_seed: seed -> the average over the measures.
    """

    mean: float
    low: float | None
    high: float | None
    by_seed: dict[int, float]


def measures(names: Collection[str]) -> list[str]:
    """The compared results that count in a mean rank: of several that say the same, one."""
    return [name for name in names if name not in _SAME_AS_NMI]


def mean_ranks(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Rank among n candidates, averaged over m measures.

    Args:
        values: `[n, m]`, greater is better; NaN is worst. Equal values share their mean rank, as
            all do where m is 0.

    Returns:
        float64 `[n]` in [1, n].
    """
    table = np.nan_to_num(np.asarray(values, float), nan=-np.inf)
    if not table.size:
        return np.full(len(table), (len(table) + 1) / 2)
    return stats.rankdata(-table, axis=0).mean(axis=1)


def rank(values: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, MeanRank]:
    """Ranks variants over the seeds that all of them have.

    All variants of a seed are ranked among each other, and the bootstrap draws whole seeds, so
    that the effect of a seed on all variants cancels.

    Args:
        values: variant -> measure -> seed -> result. Variants without any are left out.

    Returns:
        By variant, the best first; empty without a common seed or measure.
    """
    names = [name for name in values if any(values[name].values())]
    known = [set(measure) for name in names for measure in values[name].values()]
    seeds = sorted(set.intersection(*known)) if known else []
    if not seeds:
        return {}
    table = np.stack(
        [
            mean_ranks([[measure[seed] for measure in values[name].values()] for name in names])
            for seed in seeds
        ]
    )  # [seeds, variants]
    drawn = np.random.default_rng(0).integers(len(seeds), size=(_RESAMPLES, len(seeds)))
    intervals = np.percentile(table[drawn].mean(axis=1), [2.5, 97.5], axis=0)
    found = {}
    for column in np.argsort(table.mean(axis=0), kind="stable"):
        low, high = map(float, intervals[:, column]) if len(seeds) > 1 else (None, None)
        by_seed = dict(zip(seeds, map(float, table[:, column]), strict=True))
        found[names[column]] = MeanRank(float(table[:, column].mean()), low, high, by_seed)
    return found


def ranking(summary: Mapping[str, Any], runs: Runs) -> dict[str, dict[str, Any]]:
    """The variants by mean rank, with what they cost, as compare.json holds them.

    Args:
        summary: what `compare_statistics.summarise` made of the runs.
        runs: variant -> seed -> its run.

    Returns:
        By variant, the best first, without those of --detector=noisy_oracle, which show what pairs
        of a quality would do: "rank" as `MeanRank`; "average", seed -> mean of the measures;
        "supervised", whether true labels find its pairs; of the averages "against_baseline", as
        `Difference` for as many comparisons as there are variants without labels beside the
        baseline, and "gap_closed" with "gap_closed_interval"; "step_seconds", the mean over seeds
        or None.
    """
    counted = measures(summary["protocols"])
    flags = {name: next(iter(seeds.values())).flags for name, seeds in runs.items() if seeds}
    values = {
        name: {m: variant["metrics"].get(m, {}).get("values", {}) for m in counted}
        for name, variant in summary["variants"].items()
        if flags.get(name, {}).get("detector") != "noisy_oracle"
    }
    ranks, means = rank(values), {name: _means(own) for name, own in values.items()}
    baseline, (floor, ceiling) = summary["baseline"], ends(flags)
    found = {}
    supervised = {name for name in ranks if flags[name].get("detector") == "oracle"}
    comparisons = max(1, len(ranks.keys() - supervised) - 1)
    for name, own in ranks.items():
        against = closed = None
        if baseline in ranks and name != baseline:
            against = difference(means[baseline], means[name], comparisons=comparisons)
        if floor and ceiling:
            closed = gap_closed(means[floor], means[name], means[ceiling])
        found[name] = {
            "rank": own._asdict(),
            "average": means[name],
            "supervised": name in supervised,
            "against_baseline": against and against._asdict(),
            "gap_closed": closed and closed.mean,
            "gap_closed_interval": closed and [closed.low, closed.high],
            "step_seconds": mean_of_known(map(_step_seconds, runs[name].values())),
        }
    return found


def _means(measured: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Seed -> mean over the measures, for the seeds that have all."""
    seeds = set.intersection(*map(set, measured.values())) if measured else set()
    return {
        seed: float(np.mean([own[seed] for own in measured.values()])) for seed in sorted(seeds)
    }


def _step_seconds(run: RunRecords) -> float | None:
    speed = run.result("train_images_per_second")
    return run.whole("batch_size") / speed if speed else None
