"""Rows of results: measured in turn with a peer, compared, shown and written.

A busy machine slows all of them, so contenders take turns and are compared within a round.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_COLUMNS = "{:34} {:34} {:>11} {:>11} {:>8} {:>7} {:>3}  {}"


class Row(NamedTuple):
    """One figure beside a peer's.

    Attributes:
        case: what was measured, with its sizes.
        metric: the quantity, with its unit.
        ours, peer: medians over the rounds; a peer that is missing has None.
        peer_name: the peer; empty if the figure stands alone.
        ratio: how many times better ours is, the median over the rounds: peer / ours of a time
            or of bytes, ours / peer of a rate. Of a metric called "cost of ..." it is ours / peer:
            the factor by which the addition raises the peer's time or bytes.
        spread: largest minus smallest round, as a share of the median: of the ratio, or, without
            a peer, of ours.
        n: rounds.
    """

    case: str
    metric: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None
    spread: float
    n: int


def seconds(function: Callable[[], Any]) -> float:
    """The time of a call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def in_turn(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """The result of every contender in each round, after one round that warms up."""
    if warm:
        for contender in contenders.values():
            contender()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(contender())
    return found


def row(
    case: str,
    metric: str,
    ours: Sequence[float],
    peer: Sequence[float] | None = None,
    peer_name: str = "",
    *,
    larger_is_better: bool = False,
) -> Row:
    """A row of what the rounds gave.

    Args:
        case, metric, peer_name: see `Row`.
        ours: one number a round.
        peer: those of the same rounds, or None.
        larger_is_better: for rates and shares; a "cost of ..." is given as a time or bytes.
    """
    ratios = None
    if peer is not None:
        upright = larger_is_better or metric.startswith("cost of ")
        pairs = zip(ours, peer, strict=True)
        ratios = [own / other if upright else other / own for own, other in pairs]
    judged = ours if ratios is None else ratios
    middle = statistics.median(judged)
    return Row(
        case,
        metric,
        statistics.median(ours),
        None if peer is None else statistics.median(peer),
        peer_name,
        None if ratios is None else middle,
        (max(judged) - min(judged)) / abs(middle) if middle else 0.0,
        len(ours),
    )


def shown(number: float | None) -> str:
    """Four digits of a number, or a dash."""
    return "-" if number is None else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()]
        known = {key.strip(): value.strip() for key, _, value in lines}
        name = known.get("model name", name)
        features = known.get("flags", "").split()
        name += "".join(f", {key}" for key in ("avx512f", "amx_bf16") if key in features)
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def run(name: str, parser: argparse.ArgumentParser, measure: Callable[..., Iterable[Row]]) -> None:
    """The command line of a benchmark: shows rows as they are found, and writes them.

    Args:
        name: of the benchmark.
        parser: with the benchmark's own options, handed to `measure` by name.
        measure: yields the rows.
    """
    parser.add_argument("--json", default="", metavar="PATH", help="the rows as JSON; -: stdout")
    options = vars(parser.parse_args())
    path = options.pop("json")
    table = sys.stderr if path == "-" else sys.stdout
    print(
        _COLUMNS.format("case", "metric", "ours", "peer", "ratio", "spread", "n", "peer"),
        file=table,
    )
    found: list[Row] = []
    for each in measure(**options):
        found.append(each)
        numbers = [shown(value) for value in (each.ours, each.peer, each.ratio)]
        line = _COLUMNS.format(
            each.case, each.metric, *numbers, f"{each.spread:.0%}", each.n, each.peer_name
        )
        print(line, file=table, flush=True)
        if path not in ("", "-"):  # Anew each time: what was measured survives an interruption.
            pathlib.Path(path).write_text(_content(name, found), encoding="utf-8")
    if path == "-":
        print(_content(name, found), end="")


def _content(name: str, found: list[Row]) -> str:
    """The file of rows."""
    return (
        json.dumps(
            {
                "benchmark": name,
                "machine": machine(),
                "date": datetime.date.today().isoformat(),
                "rows": [each._asdict() for each in found],
            },
            indent=1,
        )
        + "\n"
    )
