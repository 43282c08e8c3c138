"""The verdict on a run: four questions with their answers, and what to do next, as commands.

From a run's records alone, so that report, watch and the closing table say the same.
"""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

from ifnd_tf.report.expected_gain import expected_gain
from ifnd_tf.report.next_steps import FEWEST_STEPS, Step, labelled, next_steps
from ifnd_tf.run.metric_names import describe, number_text
from ifnd_tf.run.records import RunRecords
from ifnd_tf.run.state import state
from ifnd_tf.run.words import counted

_BASELINES = {"raw_pixel_": "raw pixels", "untrained_": "an untrained network"}
# Standard errors of a difference of two accuracies that count as clear, and points where the
# number of test images is not known.
_CLEAR, _POINTS = 2.0, 0.01
# Raw pixels that classify better than this leave kNN little to tell encoders apart by.
_SATURATED = 0.95
# Detection's place between chance (0) and certainty (1) from which it counts as better.
_BETTER_THAN_CHANCE = 0.1
_UNLABELLED = "not measured, since that needs labelled images"
# A kNN accuracy that rises by more in the last quarter of the epochs is still rising.
_RISING = 0.01


class Judgement(NamedTuple):
    """The answer to one question.

    Attributes:
        question: so that "yes" is good.
        good: the answer; None: not measured, or between the two.
        answer: yes, no, partly, not yet or -.
        reason: the numbers, in words.
    """

    question: str
    good: bool | None
    answer: str
    reason: str


class Verdict(NamedTuple):
    """Judgements, and steps in the order of their use."""

    judgements: list[Judgement]
    steps: list[Step]

    def lines(self) -> list[str]:
        """The judgements for a terminal."""
        return [f"{each.question}: {each.answer}; {each.reason}" for each in self.judgements]

    def untold(self, warnings: Iterable[str]) -> list[str]:
        """The warnings that are not the reason of a judgement."""
        told = {each.reason for each in self.judgements}
        return [text for text in warnings if text.rstrip(".") not in told]


def judge(run: RunRecords) -> Verdict:
    """The verdict on what was done: on a training, or on the evaluation of a given encoder."""
    if not run.metrics and not run.results:
        return Verdict([], [])
    learned = _baselines(run)
    if run.given_encoder:
        found = [] if learned.answer == "-" else [learned]
        return Verdict(found, list(next_steps(run)))
    pairs = [] if run.flags.get("detector") in (None, "none") else [_pairs(run)]
    sound, long = _collapse(run), _length(run)
    steps = next_steps(run, learned=learned.good, sound=sound.good, long=long.good)
    return Verdict([learned, *pairs, sound, long], list(steps))


def _baselines(run: RunRecords) -> Judgement:
    """Whether the encoder is clearly better; few labels separate encoders that kNN does not."""
    question = "better than raw pixels"
    if not run.given_encoder:
        question += " and an untrained network"
    outcomes, reasons = [], []
    for name in sorted(run.results, key=lambda name: (name.startswith("knn"), name)):
        value = run.result(name)
        floors = {w: run.result(p + name) for p, w in _BASELINES.items()}
        known = {words: floor for words, floor in floors.items() if floor is not None}
        if not name.endswith("_top1") or value is None or not known:
            continue
        best = max(known.values())
        margin = _margin(run, value, best)
        outcome = (value > best + margin) - (value < best - margin)
        text = ", ".join(f"{words} {number_text(v, True)}" for words, v in known.items())
        text = f"{describe(name).text} {number_text(value, True)} ({text})"
        text += "" if outcome else ", no clear difference"
        if not outcome and best >= _SATURATED:
            text += f": {describe(name).text.split()[0]} saturates on such images"
        outcomes.append(outcome)
        reasons.append(text)
    if not outcomes:
        reason = "not evaluated so far" if labelled(run) else _UNLABELLED
        return Judgement(question, None, "-", reason)
    good = max(outcomes) > 0
    if good and min(outcomes) < 0:
        return Judgement(question, None, "partly", "; ".join(reasons))
    return Judgement(question, good, "yes" if good else "no", "; ".join(reasons))


def _margin(run: RunRecords, *shares: float) -> float:
    count = run.result("num_evaluation_examples")
    if not count:
        return _POINTS
    return _CLEAR * math.sqrt(sum(share * (1.0 - share) for share in shares) / count)


def _pairs(run: RunRecords) -> Judgement:
    """Judges the last refresh that detected pairs."""
    question = "detected pairs better than chance"
    if not run.detection:
        warmup, planned = run.whole("warmup_epochs"), run.whole("epochs")
        if planned and warmup >= planned:
            reason = f"nothing is detected: {counted(warmup, 'epoch')} of warm-up, {planned} in all"
            return Judgement(question, False, "no", reason)
        if planned and run.epochs_done >= planned:
            return Judgement(question, False, "no", f"nothing in {counted(planned, 'epoch')}")
        return Judgement(question, None, "not yet", "nothing has been detected so far")
    chances = dict(run.refreshes("chance_precision"))
    measured = [(v, chances[e]) for e, v in run.refreshes("precision") if e in chances]
    if not measured:
        reason = _UNLABELLED
        if any("precision" in record for record in run.detection):
            reason = "no pair was accepted, or the precision by chance was not recorded"
        return Judgement(question, None, "-", reason)
    precision, chance = measured[-1]
    reason = (
        f"{number_text(precision, True)} of the detected pairs share a class, "
        f"{number_text(chance, True)} of all pairs do"
    )
    if told := expected_gain(run):
        reason += f"; {told}"
    better = (precision - chance) / max(1.0 - chance, 1e-9) >= _BETTER_THAN_CHANCE
    return Judgement(question, better, "yes" if better else "no", reason)


def _collapse(run: RunRecords) -> Judgement:
    question = "free of collapse"
    if any(not math.isfinite(value) for _, value in run.values("loss")):
        return Judgement(question, False, "no", "the loss was not finite")
    # The evaluation's warnings are about collapse alone; training's only if they say so.
    warnings = run.results.get("health_warnings")
    if not isinstance(warnings, list):
        warnings = [text for text in run.warnings if "collapse" in text]
    if warnings:
        return Judgement(question, False, "no", str(warnings[0]).rstrip("."))
    rank = run.result("health_effective_rank")
    if rank is None:
        rank = next((v for _, v in reversed(run.values("health_effective_rank"))), None)
    if rank is None:
        return Judgement(question, None, "-", "not measured yet")
    reason = f"the embeddings vary in about {counted(round(rank), 'direction')}"
    spread = run.result("health_embedding_std")
    if spread is not None:  # of unit vectors: sqrt(1 - |mean|^2), and |mean|^2 is the mean cosine
        reason += f"; the mean cosine of two images is {1.0 - spread**2:.2f}"
    return Judgement(question, True, "yes", reason)


def _length(run: RunRecords) -> Judgement:
    question = "trained long enough"
    done, planned = run.epochs_done, run.whole("epochs") or run.epochs_done
    if done < planned:
        now = state(run.status, time.time()) if run.status else ""
        answer = "no" if now in ("stopped", "failed", "dead") else "not yet"
        good = False if answer == "no" else None
        return Judgement(question, good, answer, f"{done} of {counted(planned, 'epoch')} done")
    steps = run.metrics[-1].get("step") if run.metrics else None
    if isinstance(steps, int) and steps < FEWEST_STEPS:
        return Judgement(
            question, False, "no", f"{counted(steps, 'step')} in all; thousands are common"
        )
    loss, chance = run.values("loss"), run.result("random_loss")
    if loss and chance and loss[-1][1] > 0.95 * chance:
        return Judgement(
            question, False, "no",
            f"the loss of {loss[-1][1]:.2f} is still that of chance, {chance:.2f}",
        )  # fmt: skip
    return _settled(run, question, planned)


def _settled(run: RunRecords, question: str, planned: int) -> Judgement:
    """Whether the last quarter of the epochs still brought much."""
    name, words, percent = "online_knn_top1", "kNN accuracy", True
    curve = run.values(name)
    if len(curve) < 4:
        name, words, percent = "positive_similarity", "the cosine of two views", False
        curve = run.values(name)
    before = [value for epoch, value in curve if epoch <= 0.75 * planned]
    if len(curve) < 4 or not before:
        return Judgement(question, None, "-", "too few epochs to tell")
    rise = curve[-1][1] - before[-1]
    change = f"{100 * rise:+.1f} points" if percent else f"{rise:+.3f}"
    reason = f"{words} changed by {change} in the last quarter"
    still = rise > _RISING * (1 if percent else 3)
    return Judgement(question, not still, "no" if still else "yes", reason)
