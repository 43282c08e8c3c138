"""Chooses the settings of each variant of a comparison by trials on the validation split."""

import math
from collections.abc import Mapping
from typing import Any

from ifnd_tf.errors import UserError
from ifnd_tf.report.compare_ranks import mean_ranks, measures
from ifnd_tf.report.compare_statistics import compared
from ifnd_tf.stages.compare_runs import DIVERGED, complete
from ifnd_tf.stages.compare_variants import Member
from ifnd_tf.stages.run import Run


def chosen(runs: Mapping[Member, Run]) -> dict[str, dict[str, str]]:
    """The settings of each variant that its best trial had.

    The best has the least mean rank among the variant's trials over the compared results (of
    clusterings, NMI alone); of equal ones the first. A trial that diverged is the worst.

    Args:
        runs: the trials, all of them ended.

    Raises:
        UserError: if every trial of a variant diverged.
    """
    rows = _rows(runs)
    found = {row["variant"]: dict(row["flags"]) for row in rows if row["chosen"]}
    for row in rows:
        if row["variant"] not in found:
            raise UserError(
                f"--tuning_trials: expected a trial of {row['variant']} that does not diverge. "
                "Received: none; change its alternatives, or leave it out by --only_variants."
            )
    return found


def table(runs: Mapping[Member, Run]) -> str:
    """Every trial with its settings, results, mean rank and whether it was chosen, as TSV."""
    rows = _rows(runs)
    names = _names(runs)
    lines = [["variant", "trial", "settings", *names, "mean_rank", "chosen"]]
    for row in rows:
        results = [f"{value:.4f}" if math.isfinite(value) else DIVERGED for value in row["values"]]
        settings = ";".join(f"{flag}={value}" for flag, value in row["flags"])
        rank, mark = f"{row['rank']:g}", "yes" if row["chosen"] else ""
        lines.append([row["variant"], str(row["trial"]), settings, *results, rank, mark])
    return "".join("\t".join(line) + "\n" for line in lines)


def ended(run: Run) -> bool:
    """Whether a trial needs no more training: it is complete, or has diverged."""
    return complete(run) or DIVERGED in run.directory.results()


def _names(runs: Mapping[Member, Run]) -> list[str]:
    found = {name for run in runs.values() for name in run.directory.results()}
    return measures(compared(found))


def _rows(runs: Mapping[Member, Run]) -> list[dict[str, Any]]:
    """The trials, those of a variant together."""
    names, rows = _names(runs), []
    for variant in dict.fromkeys(member.variant for member in runs):
        own = {m: run.directory.results() for m, run in runs.items() if m.variant == variant}
        fine = [place for place, each in enumerate(own.values()) if DIVERGED not in each]
        values = [
            [math.nan if DIVERGED in each else each.get(name, math.nan) for name in names]
            for each in own.values()
        ]
        ranks = mean_ranks(values)
        best = min(fine, key=ranks.__getitem__, default=None)
        rows += [
            {
                "variant": variant, "trial": member.number, "flags": member.flags,
                "values": values[place], "rank": ranks[place], "chosen": place == best,
            }
            for place, member in enumerate(own)
        ]  # fmt: skip
    return rows
