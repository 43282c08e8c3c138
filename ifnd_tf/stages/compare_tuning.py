"""Chooses the settings of each variant of a comparison by trials on the validation split."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ifnd_tf.report.compare_ranks import mean_ranks, measures
from ifnd_tf.report.compare_statistics import compared
from ifnd_tf.stages.compare_runs import DIVERGED, complete
from ifnd_tf.stages.compare_variants import Member
from ifnd_tf.stages.run import Run


class _Trial(NamedTuple):
    """A trial that has ended.

    Attributes:
        member: its variant, number and settings.
        values: its results, NaN if it diverged.
        rank: its mean rank over the results among the trials of its variant.
        place: of a trial that is chosen, its mean rank among the chosen ones; else None.
    """

    member: Member
    values: list[float]
    rank: float
    place: float | None = None


def chosen(runs: Mapping[Member, Run]) -> dict[str, dict[str, str]]:
    """The settings of each variant that its best trial had.

    The best has the least mean rank among the variant's trials over the compared results (of
    clusterings, NMI alone), the first of equal ones. A trial that diverged is not chosen.

    Args:
        runs: the trials, all of them ended.

    Returns:
        By variant, without those of which every trial diverged.
    """
    best = [trial.member for trial in _trials(runs) if trial.place is not None]
    return {member.variant: dict(member.flags) for member in best}


def table(runs: Mapping[Member, Run]) -> str:
    """Every trial as TSV: settings, results, mean rank among the variant's and whether chosen.

    The last column ranks the chosen trials among each other: the variants on the validation split.
    """
    columns = ["variant", "trial", "settings", *_names(runs), "mean_rank", "chosen", "variant_rank"]
    lines = [columns]
    for member, values, rank, place in _trials(runs):
        settings = ";".join(f"{flag}={value}" for flag, value in member.flags)
        results = [f"{value:.4f}" if math.isfinite(value) else DIVERGED for value in values]
        last = ["", ""] if place is None else ["yes", f"{place:g}"]
        lines.append([member.variant, str(member.number), settings, *results, f"{rank:g}", *last])
    return "".join("\t".join(line) + "\n" for line in lines)


def ended(run: Run) -> bool:
    """Whether a trial needs no more training: it is complete, or has diverged."""
    return complete(run) or DIVERGED in run.directory.results()


def _names(runs: Mapping[Member, Run]) -> list[str]:
    found = {name for run in runs.values() for name in run.directory.results()}
    return measures(compared(found))


def _trials(runs: Mapping[Member, Run]) -> list[_Trial]:
    """The trials, those of a variant together."""
    names = _names(runs)
    found: list[_Trial] = []
    best: list[int] = []
    for variant in dict.fromkeys(member.variant for member in runs):
        own = {m: run.directory.results() for m, run in runs.items() if m.variant == variant}
        values = [
            [math.nan if DIVERGED in each else each.get(name, math.nan) for name in names]
            for each in own.values()
        ]
        ranks = mean_ranks(values)
        fine = [place for place, each in enumerate(own.values()) if DIVERGED not in each]
        if fine:
            best.append(len(found) + min(fine, key=ranks.__getitem__))
        found += map(_Trial, own, values, ranks)
    for place, rank in zip(best, mean_ranks([found[place].values for place in best]), strict=True):
        found[place] = found[place]._replace(place=rank)
    return found
