"""`--mode=watch`: shows a run in another terminal, from its run directory alone.

Imports no TensorFlow, so that it starts at once and takes nothing from the run.
"""

import contextlib
import itertools
import math
import statistics
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ifnd_tf.report.summary import main_results
from ifnd_tf.report.verdict import Verdict, judge
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.run.state import state
from ifnd_tf.run.words import counted

_REFRESH_SECONDS = 2.0
_COLOURS = {"running": "green", "finished": "green", "stopped": "yellow", "failed": "red"}
_BARS = "▁▂▃▄▅▆▇█"

_REFRESH = ("acceptance_rate", "accepted_share", "precision", "recall", "label_churn")


def watch(path: str, console: Console | None = None) -> None:
    """Shows a run until it ends; only once if standard output is no terminal.

    Args:
        path: the run directory, local or gs://.
        console: where to show it; None: standard output.

    Raises:
        UserError: if no run has begun in it.
    """
    console = console or Console()
    run = read_run(path)
    if not console.is_terminal or state(run.status, time.time()) != "running":
        console.print(view(run, time.time()))
        return
    # Ctrl-C ends the watching, not the run.
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(view(run, time.time()), console=console, auto_refresh=False) as live,
    ):
        while state(run.status, time.time()) == "running":
            time.sleep(_REFRESH_SECONDS)
            run = read_run(path)
            live.update(view(run, time.time()), refresh=True)


def view(run: RunRecords, now: float) -> RenderableType:
    """All rows, for any width of terminal."""
    verdict = judge(run)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    trained = not run.given_encoder
    rows = (
        ("state", _state_line(run, now)),
        ("status", Text(run.status.get("text", ""))),
        ("encoder", Text(run.given_encoder)),
        ("epochs", _epochs(run) if trained else None),
        ("loss", _curve(run, "loss", ".3f")),
        ("online kNN", _curve(run, "online_knn_top1", ".1%")),
        ("accepted", _curve(run, "detection_accepted_share", ".0%")),
        ("pair precision", _curve(run, "detection_precision", ".2f")),
        ("last refresh", _refresh(run) if trained else None),
        ("warnings", Text("\n".join(verdict.untold(run.warnings)), style="red")),
        ("results", Text("\n".join(map(": ".join, main_results(run.results))))),
        ("verdict", _verdict(verdict)),
        ("next", Text("\n".join(f"{step.command}  ({step.purpose})" for step in verdict.steps))),
    )
    for name, content in rows:
        if content is not None and (not isinstance(content, Text) or content.plain):
            table.add_row(name, content)
    title = Text(f"{run.flags.get('experiment', '')}  {run.path}", style="bold")
    return Group(title, table)


def _state_line(run: RunRecords, now: float) -> Text:
    found = state(run.status, now)
    text = Text(found, style=f"bold {_COLOURS.get(found, 'red')}")
    if "time" in run.status:
        text.append(f"  last update {duration(max(0, now - run.status['time']))} ago")
    if found == "dead":
        text.append("  It ended without an error message.")
    if found in ("dead", "stopped", "failed") and not run.given_encoder:
        text.append("  The same command goes on from the last checkpoint.")
    return text


def _epochs(run: RunRecords) -> RenderableType | None:
    total, done = run.whole("epochs"), run.epochs_done
    if not total:
        return None
    text = f"{done} of {total}"
    seconds = [value for _, value in run.values("epoch_seconds")[-5:]]
    if seconds and done < total:
        # The median, since epochs with an evaluation take longer than others.
        text += f"  about {duration(statistics.median(seconds) * (total - done))} left"
    if speed := run.values("images_per_second"):
        text += f"  {speed[-1][1]:,.0f} images/s"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=total, completed=done, width=24), text)
    return grid


def _curve(run: RunRecords, name: str, form: str) -> Text:
    values = [value for _, value in run.values(name) if math.isfinite(value)]
    return Text(f"{_sparkline(values)}  {values[-1]:{form}}" if values else "")


def _sparkline(values: list[float], width: int = 24) -> str:
    """One character a value, or a mean of neighbours where there are more than `width`."""
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    if len(values) > width:
        values = [statistics.fmean(values[a:b]) for a, b in itertools.pairwise(edges)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def _refresh(run: RunRecords) -> Text:
    if not run.detection:
        warmup = counted(run.whole("warmup_epochs"), "epoch")
        first = f"none yet; {warmup} without detection"
        return Text("" if run.flags.get("detector") == "none" else first)
    last = run.detection[-1]
    parts = [f"before epoch {last['epoch'] + 1}"]
    for name in _REFRESH:
        if isinstance(last.get(name), int | float):
            form = ".0%" if describe(f"detection_{name}").percent else ".3g"
            parts.append(f"{name.replace('_', ' ')} {last[name]:{form}}")
    if isinstance(last.get("clusters"), list):
        clusters = "+".join(map(str, last["clusters"]))
        parts.append(f"{clusters} clusters, {last.get('empty_clusters', 'unknown')} empty")
    return Text(", ".join(parts))


def _verdict(verdict: Verdict) -> Text:
    text = Text()
    for each in verdict.judgements:
        colour = {True: "green", False: "red", None: "yellow"}[each.good]
        text.append("\n" if text else "").append(f"{each.question}: ")
        text.append(each.answer, style=f"bold {colour}").append(f"; {each.reason}")
    return text
