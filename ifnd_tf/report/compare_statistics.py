"""Statistics of variants over seeds: mean, deviation, paired difference, share of the gap."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ifnd_tf.run.records import RunRecords

# variant -> seed -> its run, the baseline first.
Runs = Mapping[str, Mapping[int, RunRecords]]

# The results that a comparison is judged by, in the tables' order.
_COMPARED = (
    r"knn_top1", r"linear_top1", r"linear_[\d.]+(pct|shot)_top1", r"finetune_[\d.]+(pct|shot)_top1",
    r"transfer_(knn|linear)_top1", r"transfer_svm_map_voc07", r"cluster_nmi", r"cluster_ami",
    r"cluster_purity",
)  # fmt: skip
_CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Numbers of several seeds.

    Attributes:
        mean: their mean.
        std: sample standard deviation (n - 1); NaN for one seed.
        seeds: n.
    """

    mean: float
    std: float
    seeds: int


class Difference(NamedTuple):
    """A variant minus the baseline, paired by seed, so that the effect of the seed cancels.

    Attributes:
        mean: mean difference.
        std: sample standard deviation of the differences; NaN for one seed.
        half_width: of the 95% confidence interval of the mean (Student's t); NaN for one seed.
        better: seeds in which the variant is above the baseline.
        seeds: how many both have.
    """

    mean: float
    std: float
    half_width: float
    better: int
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out; not for one seed, which has none."""
        return abs(self.mean) > self.half_width


def spread(numbers: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of `[n]` numbers, n >= 1."""
    std = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan
    return Spread(float(np.mean(numbers)), std, len(numbers))


def difference(
    baseline: Mapping[int, float], variant: Mapping[int, float], *, comparisons: int = 1
) -> Difference | None:
    """Compares seed -> value of two variants over their common seeds; None if there is none.

    Args:
        baseline: subtracted.
        variant: from it.
        comparisons: how many are made; each interval is widened (Bonferroni), so that all hold at
            once with 95%.
    """
    pairs = [variant[seed] - baseline[seed] for seed in sorted(baseline) if seed in variant]
    if not pairs:
        return None
    mean, std, count = spread(pairs)
    tail = (1 - _CONFIDENCE) / 2 / comparisons
    quantile = float(stats.t.ppf(1 - tail, count - 1)) if count > 1 else math.nan
    better = sum(pair > 0 for pair in pairs)
    return Difference(mean, std, quantile * std / math.sqrt(count), better, count)


class Share(NamedTuple):
    """A share of the gap between two variants.

    Attributes:
        mean: the ratio of the mean differences.
        low, high: its 95% confidence interval.
    """

    mean: float
    low: float
    high: float


def gap_closed(
    floor: Mapping[int, float], variant: Mapping[int, float], ceiling: Mapping[int, float]
) -> Share | None:
    """Share of the way from floor to ceiling, from means over the seeds that all three have.

    The interval is Fieller's (1954), for the ratio of two means of the same seeds. It is bounded
    where the ceiling is clearly above the floor; None elsewhere, and for one seed: a share of
    noise says nothing.
    """
    common = sorted(set(floor) & set(variant) & set(ceiling))
    if len(common) < 2:
        return None
    low, value, high = (np.array([v[seed] for seed in common]) for v in (floor, variant, ceiling))
    step, gap = value - low, high - low
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(common) - 1))
    covariance = np.cov(step, gap) / len(common) * quantile**2
    # The shares s with (mean(step) - s mean(gap))^2 <= t^2 var(mean(step) - s mean(gap)).
    square = gap.mean() ** 2 - covariance[1, 1]
    if gap.mean() <= 0 or square <= 0:
        return None
    half = step.mean() * gap.mean() - covariance[0, 1]
    constant = step.mean() ** 2 - covariance[0, 0]
    root = math.sqrt(max(half**2 - square * constant, 0.0))
    ends = ((half + sign * root) / square for sign in (-1, 1))
    return Share(float(step.mean() / gap.mean()), *map(float, ends))


def compared(names: Iterable[str]) -> list[str]:
    """The results among `names` that a comparison is judged by, in the tables' order."""
    found = {}
    for name in sorted(names):
        for place, pattern in enumerate(_COMPARED):
            if re.fullmatch(pattern, name):
                number = re.search(r"_([\d.]+)(pct|shot)", name)
                found[name] = place, float(number[1]) if number else 0.0
    return sorted(found, key=found.__getitem__)


def ends(flags: Mapping[str, Mapping[str, str]]) -> tuple[str | None, str | None]:
    """The variant without removal, and the one with true labels; None where there is none.

    Args:
        flags: of each variant, by name.
    """
    plain = ("none", "eliminate", "attract")  # rules that do nothing without labels
    floors = (
        n
        for n, own in flags.items()
        if own.get("detector") == "none" and own.get("treatment", "eliminate") in plain
    )
    ceilings = (name for name, own in flags.items() if own.get("detector") == "oracle")
    return next(floors, None), next(ceilings, None)


def summarise(runs: Runs) -> dict[str, Any]:
    """The comparison as compare.json holds it.

    Args:
        runs: variant -> seed -> its run; the first variant is the baseline.

    Returns:
        "baseline", "protocols" (the compared results) and "variants": by name its
        "seeds", the "flags" in which variants differ, "masked_share" of the last epoch that
        measured it, the mean over seeds or None, and its "metrics": by name "values" by seed,
        "mean", "std", "seeds" and, against the baseline, "difference" as `Difference`; where
        there are both ends, "gap_closed", the share of the gap between none and oracle, and
        "gap_closed_interval", its ends.
    """
    baseline, names = next(iter(runs)), _metric_names(runs)
    protocols = compared(names)
    values = {name: {n: _values(seeds, n) for n in names} for name, seeds in runs.items()}
    flags = {name: next(iter(seeds.values())).flags for name, seeds in runs.items() if seeds}
    differing = _differing(flags.values())
    floor, ceiling = ends(flags)

    def entry(variant: str, name: str) -> dict[str, Any]:
        own = values[variant][name]
        found: dict[str, Any] = {"values": own, **spread(list(own.values()))._asdict()}
        paired = difference(values[baseline][name], own)
        if variant != baseline and paired:
            found["difference"] = paired._asdict()
        if floor and ceiling and name in protocols:
            closed = gap_closed(values[floor][name], own, values[ceiling][name])
            found["gap_closed"] = closed and closed.mean
            found["gap_closed_interval"] = closed and [closed.low, closed.high]
        return found

    return {
        "baseline": baseline,
        "protocols": protocols,
        "variants": {
            name: {
                "seeds": sorted(seeds),
                "flags": {f: flags[name][f] for f in differing if f in flags.get(name, {})},
                "masked_share": mean_of_known(map(_masked_share, seeds.values())),
                "metrics": {n: entry(name, n) for n in names if values[name][n]},
            }
            for name, seeds in runs.items()
        },
    }


def mean_of_known(numbers: Iterable[float | None]) -> float | None:
    """The mean of the numbers that are known; None if none is."""
    known = [number for number in numbers if number is not None]
    return float(np.mean(known)) if known else None


def curve(runs: Mapping[int, RunRecords], name: str) -> list[tuple[float, Spread]]:
    """(epoch, spread over seeds) of a number of metrics.jsonl, for epochs that all seeds have."""
    by_epoch: dict[float, list[float]] = {}
    for run in runs.values():
        for epoch, value in run.values(name):
            by_epoch.setdefault(epoch, []).append(value)
    return [(e, spread(v)) for e, v in sorted(by_epoch.items()) if len(v) == len(runs)]


def _values(runs: Mapping[int, RunRecords], name: str) -> dict[int, float]:
    """Seed -> the number of that name in results.json, where there is one."""
    found = {seed: run.result(name) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _masked_share(run: RunRecords) -> float | None:
    values = run.values("masked_share")
    return values[-1][1] if values else None


def _metric_names(runs: Runs) -> list[str]:
    """All names of numbers in results.json, the compared ones first."""
    every = [run for seeds in runs.values() for run in seeds.values()]
    names = {name for run in every for name in run.results if run.result(name) is not None}
    known = compared(names)
    return known + sorted(names - set(known))


def _differing(flags: Collection[Mapping[str, str]]) -> list[str]:
    """Flags whose values differ between variants, apart from those that differ in every run."""
    names = {name for own in flags for name in own} - {"seed", "workdir", "experiment"}
    return sorted(name for name in names if len({own.get(name) for own in flags}) > 1)
