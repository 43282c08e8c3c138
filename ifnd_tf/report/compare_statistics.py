"""What a comparison of variants over seeds says: means, spreads, paired differences, the gap."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ifnd_tf.run.records import RunFiles

# variant -> seed -> its run, the baseline first.
Runs = Mapping[str, Mapping[int, RunFiles]]

# What decides a comparison, where results.json has it: name -> heading, in the table's order.
HEADINGS = {
    "knn_top1": "kNN",
    "linear_top1": "linear",
    "linear_1pct_top1": "linear, 1% of labels",
    "linear_10pct_top1": "linear, 10% of labels",
    "finetune_1pct_top1": "fine-tuned, 1% of labels",
    "finetune_10pct_top1": "fine-tuned, 10% of labels",
    "transfer_knn_top1": "transfer, kNN",
    "transfer_linear_top1": "transfer, linear",
    "transfer_svm_map_voc07": "transfer, SVM mAP",
    "cluster_nmi": "clusters' NMI",
    "cluster_ami": "clusters' AMI",
    "cluster_purity": "clusters' purity",
}
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
    """A variant minus the baseline, seed by seed: what both owe to the seed cancels.

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
        """Whether the mean is above 0, by more than its interval if there is one."""
        return self.mean > (0.0 if math.isnan(self.half_width) else self.half_width)


def values(runs: Mapping[int, RunFiles], metric: str) -> dict[int, float]:
    """Seed -> the value of one entry of results.json, where there is one."""
    found = {seed: run.result(metric) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def spread(numbers: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of `[n]` numbers, n >= 1."""
    return Spread(float(np.mean(numbers)), _std(numbers), len(numbers))


def difference(baseline: Mapping[int, float], variant: Mapping[int, float]) -> Difference | None:
    """Compares seed -> value of two variants over their common seeds; None if there is none."""
    pairs = [variant[seed] - baseline[seed] for seed in sorted(baseline) if seed in variant]
    if not pairs:
        return None
    std, count = _std(pairs), len(pairs)
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1)) if count > 1 else math.nan
    better = sum(pair > 0 for pair in pairs)
    return Difference(float(np.mean(pairs)), std, reach * std / math.sqrt(count), better, count)


def gap_closed(
    floor: Mapping[int, float], variant: Mapping[int, float], ceiling: Mapping[int, float]
) -> float | None:
    """Share of the way from floor to ceiling, from means over the seeds that all three have.

    None where the ceiling is not clearly above the floor: a share of noise says nothing.
    """
    common = sorted(set(floor) & set(variant) & set(ceiling))
    low, value, high = ({seed: each[seed] for seed in common} for each in (floor, variant, ceiling))
    gap, step = difference(low, high), difference(low, value)
    return step.mean / gap.mean if gap and step and gap.clear else None


def floor_and_ceiling(runs: Runs) -> tuple[str, str] | None:
    """The first variants that detect nothing, and by true labels; None unless both have runs."""
    detectors = {
        name: next(iter(seeds.values())).flags.get("detector")
        for name, seeds in runs.items()
        if seeds
    }
    ends = [[n for n, d in detectors.items() if d == wanted] for wanted in ("none", "oracle")]
    return (ends[0][0], ends[1][0]) if all(ends) else None


def metrics(runs: Runs) -> list[str]:
    """All names of numbers in results.json, those of `HEADINGS` first."""
    names = {
        name
        for seeds in runs.values()
        for run in seeds.values()
        for name in run.results
        if run.result(name) is not None
    }
    known = [name for name in HEADINGS if name in names]
    return known + sorted(names - set(known))


def summarise(runs: Runs) -> dict[str, Any]:
    """The comparison as compare.json holds it.

    Args:
        runs: variant -> seed -> its run; the first variant is the baseline.

    Returns:
        "baseline", "protocols" (those of `HEADINGS` that were run) and "variants": by name its
        "seeds", the "flags" in which variants differ and its "metrics": by name "values" by seed,
        "mean", "std", "seeds" and, against the baseline, "difference" as `Difference`; where
        there are both ends, "gap_closed", the share of the gap between none and oracle.
    """
    baseline, names = next(iter(runs)), metrics(runs)
    ends = floor_and_ceiling(runs)
    differing = differing_flags(runs)
    variants: dict[str, Any] = {}
    for name, seeds in runs.items():
        flags = next(iter(seeds.values())).flags if seeds else {}
        variants[name] = {
            "seeds": sorted(seeds),
            "flags": {flag: flags[flag] for flag in differing if flag in flags},
            "metrics": {},
        }
        for metric in names:
            own = values(seeds, metric)
            if not own:
                continue
            entry: dict[str, Any] = {"values": own, **spread(list(own.values()))._asdict()}
            if name != baseline and (paired := difference(values(runs[baseline], metric), own)):
                entry["difference"] = paired._asdict()
            if ends and metric in HEADINGS:
                floor, ceiling = (values(runs[end], metric) for end in ends)
                entry["gap_closed"] = gap_closed(floor, own, ceiling)
            variants[name]["metrics"][metric] = entry
    return {
        "baseline": baseline,
        "protocols": [name for name in names if name in HEADINGS],
        "variants": variants,
    }


def differing_flags(runs: Runs) -> list[str]:
    """Flags whose values differ between variants, apart from what every run has of its own."""
    first = [next(iter(seeds.values())).flags for seeds in runs.values() if seeds]
    names = sorted({name for flags in first for name in flags} - {"seed", "workdir", "experiment"})
    return [name for name in names if len({flags.get(name) for flags in first}) > 1]


def curve(runs: Mapping[int, RunFiles], name: str) -> list[tuple[float, Spread]]:
    """(epoch, spread over seeds) of a number of metrics.jsonl, for epochs that all seeds have."""
    by_epoch: dict[float, list[float]] = {}
    for run in runs.values():
        for epoch, value in run.values(name):
            by_epoch.setdefault(epoch, []).append(value)
    return [(e, spread(v)) for e, v in sorted(by_epoch.items()) if len(v) == len(runs)]


def _std(numbers: Sequence[float]) -> float:
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan
