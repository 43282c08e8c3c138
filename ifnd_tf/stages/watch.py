"""A run as another terminal sees it, from nothing but its run directory.

Imports no TensorFlow, so that it starts at once and takes nothing from the run.
"""

import contextlib
import itertools
import math
import os
import socket
import statistics
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords, read_run

# A run on another machine, whose process cannot be asked, is given up after this silence. A phase
# such as embedding ImageNet says nothing for minutes.
_SILENCE_SECONDS = 900

_REFRESH_SECONDS = 2.0
_COLOURS = {"running": "green", "finished": "green", "stopped": "yellow", "failed": "red"}
_BARS = "▁▂▃▄▅▆▇█"

# Results worth a line, best known first.
_RESULTS = ("knn_top1", "linear_top1", "untrained_knn_top1", "raw_pixel_knn_top1", "cluster_nmi")


def watch(path: str, console: Console | None = None) -> None:
    """Shows a run until it ends; once only where standard output is no terminal.

    Args:
        path: the run directory, local or gs://.
        console: where to show it; None: standard output.

    Raises:
        UserError: if no run has begun in it.
    """
    console = console or Console()
    run = read_run(path)
    if not console.is_terminal or state(run, time.time()) != "running":
        console.print(view(run, time.time()))
        return
    # The run goes on when its watcher leaves.
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(view(run, time.time()), console=console, auto_refresh=False) as live,
    ):
        while state(run, time.time()) == "running":
            time.sleep(_REFRESH_SECONDS)
            run = read_run(path)
            live.update(view(run, time.time()), refresh=True)


def state(run: RunRecords, now: float) -> str:
    """running, finished, stopped, failed, or dead: it runs no more and did not say why.

    Args:
        run: what its directory holds.
        now: seconds since 1970.
    """
    sign = run.status
    if sign.get("state") != "running":
        return sign.get("state", "dead")
    if sign["host"] == socket.gethostname():
        return "running" if _alive(sign["pid"]) else "dead"
    return "running" if now - sign["time"] < _SILENCE_SECONDS else "dead"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # It is there, and somebody else's.
        return True
    return True


def view(run: RunRecords, now: float) -> RenderableType:
    """The whole picture, for any width of terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = (
        ("state", _state_line(run, now)),
        ("now", Text(run.status.get("text", ""))),
        ("epochs", _epochs(run)),
        ("loss", _curve(run, "loss", ".3f")),
        ("online kNN", _curve(run, "online_knn_top1", ".1%")),
        ("accepted", _curve(run, "detection_accepted_share", ".0%")),
        ("pairs", _curve(run, "detection_precision", ".2f", "precision")),
        ("last refresh", _refresh(run)),
        ("health", _health(run)),
        ("results", _results(run)),
    )
    for name, content in rows:
        if content is not None and (not isinstance(content, Text) or content.plain):
            table.add_row(name, content)
    title = Text(f"{run.flags.get('experiment', '')}  {run.path}", style="bold")
    return Group(title, table)


def _state_line(run: RunRecords, now: float) -> Text:
    found = state(run, now)
    text = Text(found, style=f"bold {_COLOURS.get(found, 'red')}")
    if "time" in run.status:
        text.append(f"  last sign of life {duration(max(0, now - run.status['time']))} ago")
    if found == "dead":
        text.append("  It ended without a word; the same command goes on from the last checkpoint.")
    elif found in ("stopped", "failed"):
        text.append("  The same command goes on from the last checkpoint.")
    return text


def _epochs(run: RunRecords) -> RenderableType | None:
    total = run.whole("epochs")
    if not total:
        return None
    done = int(run.metrics[-1]["epoch"]) if run.metrics else 0
    recent = [record["epoch_seconds"] for record in run.metrics[-5:] if "epoch_seconds" in record]
    text = f"{done} of {total}"
    if recent and done < total:
        # The median: an epoch with an evaluation in it is no guide to the others.
        text += f"  about {duration(statistics.median(recent) * (total - done))} left"
    if run.metrics and "images_per_second" in run.metrics[-1]:
        text += f"  {run.metrics[-1]['images_per_second']:,.0f} images/s"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=total, completed=done, width=24), text)
    return grid


def _curve(run: RunRecords, name: str, form: str, word: str = "") -> Text:
    values = [value for _, value in run.values(name) if math.isfinite(value)]
    if not values:
        return Text()
    return Text(f"{_sparkline(values)}  {word} {values[-1]:{form}}".replace("   ", "  "))


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
        begin = run.whole("warmup_epochs") + 1
        plain = run.flags.get("detector") == "none"
        return Text("" if plain else f"none yet; the first comes before epoch {begin}")
    last: dict[str, Any] = run.detection[-1]
    parts = [f"before epoch {last['epoch'] + 1}"]
    shown = ("acceptance_rate", "accepted_share", "precision", "recall", "label_churn")
    for name in shown:
        if isinstance(last.get(name), (int, float)):
            words = name.replace("_", " ")
            percent = describe(f"detection_{name}").percent
            parts.append(f"{words} {last[name]:.0%}" if percent else f"{words} {last[name]:.3g}")
    if isinstance(last.get("clusters"), list):
        parts.append(
            f"{'+'.join(map(str, last['clusters']))} clusters, "
            f"{last.get('empty_clusters', 'unknown')} empty"
        )
    return Text(", ".join(parts))


def _health(run: RunRecords) -> Text:
    if not run.metrics:
        return Text()
    found = run.warnings
    return Text("\n".join(found), style="red") if found else Text("no warnings", style="green")


def _results(run: RunRecords) -> Text:
    lines = []
    for name in _RESULTS:
        value = run.result(name)
        if value is not None:
            metric = describe(name)
            lines.append(
                f"{metric.text} {value:.1%}" if metric.percent else f"{metric.text} {value:.3f}"
            )
    return Text("\n".join(lines))
