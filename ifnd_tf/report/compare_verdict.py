"""The verdict of a comparison in sentences: the best variant, its lead, gain and cost."""

from typing import Any

from ifnd_tf.report.compare_ranks import measures
from ifnd_tf.report.compare_statistics import Difference, difference
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.words import counted


def verdict(summary: dict[str, Any]) -> list[str]:
    """The sentences that a comparison opens with; none where there is nothing to compare.

    Args:
        summary: as compare.json holds it.
    """
    name = _best(summary)
    sentences = (
        (_ranked(summary, name), _gain_and_cost(summary, name), conclusion(summary, name))
        if name
        else ()
    )
    return [text for text in sentences if text]


def _candidates(summary: dict[str, Any]) -> list[str]:
    """Variants that find pairs without labels, and the baseline, the best first."""
    return [name for name, own in summary["ranking"].items() if not own["supervised"]]


def _best(summary: dict[str, Any]) -> str | None:
    """The best variant other than the baseline, if possible one without labels."""
    baseline = summary["baseline"]
    names = [*_candidates(summary), *summary["ranking"]]
    return next((name for name in names if name != baseline), None)


def _ranked(summary: dict[str, Any], name: str) -> str:
    """Whether the best variant leads beyond chance, which one seed cannot tell."""
    ranking, baseline, names = summary["ranking"], summary["baseline"], _candidates(summary)
    own = ranking[name]["rank"]
    against = ranking[name]["against_baseline"]
    if name not in names or not against:
        return ""
    if own["low"] is None:
        if names[0] == baseline:
            return f"With one seed no variant without labels ranks above {baseline}."
        return (
            f"With one seed {name} ranks first of {counted(len(names), 'variant')} without labels, "
            f"{100 * against['mean']:+.1f} points from {baseline} in the mean of the measures."
        )
    over = (
        f"{counted(len(measures(summary['protocols'])), 'measure')} and "
        f"{counted(len(own['by_seed']), 'seed')}"
    )
    if names[0] == baseline:
        return (
            f"No variant without labels ranks above {baseline}: by mean rank over {over} it has "
            f"{_rank(ranking[baseline])}, and the next, {name}, {_rank(ranking[name])}."
        )
    text = (
        f"By mean rank over {over}, {name} is the best of {counted(len(names), 'variant')} without "
        f"labels: {_rank(ranking[name])}. In the mean of the measures its lead over {baseline} is "
        f"{_lead(Difference(**against))}"
    )
    if len(names) > 1 and (second := names[1]) != baseline:
        found = difference(ranking[second]["average"], ranking[name]["average"])
        assert found
        place = f"{second} ({ranking[second]['rank']['mean']:.2f})"
        text += f"; over the second, {place}, it is {_lead(found)}"
    return f"{text}."


def _rank(entry: dict[str, Any]) -> str:
    own = entry["rank"]
    return f"{own['mean']:.2f} (95% interval {own['low']:.2f} to {own['high']:.2f})"


def _lead(found: Difference) -> str:
    clear = found.clear and found.mean > 0
    return f"{_change(found)}, {'beyond' if clear else 'not beyond'} chance"


def _gain_and_cost(summary: dict[str, Any], name: str) -> str:
    """The share of the gap that the best variant closes, and the time of its step."""
    own, plain = summary["ranking"][name], summary["ranking"].get(summary["baseline"], {})
    parts = []
    if closed := own["gap_closed_interval"]:
        parts.append(
            f"closes {own['gap_closed']:.0%} ({closed[0]:.0%} to {closed[1]:.0%}) of the mean gap "
            "between no removal and removal by true labels"
        )
    if own["step_seconds"] and plain.get("step_seconds"):
        ratio = own["step_seconds"] / plain["step_seconds"]
        parts.append(f"takes {ratio:.2f} times as long a step as {summary['baseline']}")
    return f"{name} {' and '.join(parts)}." if parts else ""


def conclusion(summary: dict[str, Any], name: str) -> str:
    """One sentence on a variant: where it differs clearly from the baseline."""
    baseline = summary["baseline"]
    found = {
        metric: Difference(**entry["difference"])
        for metric, entry in summary["variants"][name]["metrics"].items()
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
        f"{len(clear) - better} of {counted(len(found), 'protocol')}; the largest differences: "
        f"{'; '.join(told)}."
    )


def _change(found: Difference) -> str:
    low, high = (100 * (found.mean + sign * found.half_width) for sign in (-1, 1))
    return f"{100 * found.mean:+.1f} points (95% interval {low:+.1f} to {high:+.1f})"
