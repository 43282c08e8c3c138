"""Ranks of variants over several measures: one number that accuracies and NMI can share."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# They say the same as NMI, which would count three times.
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
    """Those of the compared results that count in a mean rank, each protocol's once."""
    return [name for name in names if name not in _SAME_AS_NMI]


def mean_ranks(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Rank among n candidates, averaged over m measures.

    Args:
        values: `[n, m]`, greater is better; NaN is worst. Equal values share their mean rank.

    Returns:
        float64 `[n]` in [1, n].
    """
    table = np.nan_to_num(np.asarray(values, float), nan=-np.inf)
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
    ends = np.percentile(table[drawn].mean(axis=1), [2.5, 97.5], axis=0)
    found = {}
    for column in np.argsort(table.mean(axis=0), kind="stable"):
        low, high = map(float, ends[:, column]) if len(seeds) > 1 else (None, None)
        by_seed = dict(zip(seeds, map(float, table[:, column]), strict=True))
        found[names[column]] = MeanRank(float(table[:, column].mean()), low, high, by_seed)
    return found
