"""Charts as SVG text, drawn by Matplotlib, in the colours of the page around them.

Matplotlib, because its SVG is static: 10 kB a chart without a script, readable without one, and
its text stays text. Plotly's and Bokeh's charts need 1 to 5 MB of JavaScript in every page, and
neither follows a page into dark mode.
"""

import html
import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ifnd_tf.report.html import Chart, Table
from ifnd_tf.run.metric_names import number_text

# Okabe & Ito's palette for colour-blind readers, without yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777")
# Markers tell lines and groups apart without colour; and the characters that look like them.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
SYMBOLS = "●■▲◆▼✚✖★◀▶⬟"
INK, PAPER, GRID = "#333333", "#ffffff", "#e3e3e4"

_WIDTH, _HEIGHT, _BENEATH = 4.8, 2.7, 0.9  # Inches of 72 SVG units each.
_MOST_MARKERS, _MOST_ROWS = 30, 40
# A page sets these variables, for dark mode say; an SVG on its own falls back on the colour.
_VARIABLES = {INK: "--ink", PAPER: "--panel", GRID: "--grid"} | {
    colour: f"--series-{number}" for number, colour in enumerate(COLOURS, start=1)
}


STYLE: Any = {
    "axes.edgecolor": INK, "axes.facecolor": PAPER, "axes.grid": True, "axes.labelcolor": INK,
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlecolor": INK,
    "axes.titlesize": 11, "axes.titleweight": "bold", "figure.facecolor": PAPER, "font.size": 9,
    "grid.color": GRID, "grid.linewidth": 0.7, "legend.frameon": False, "legend.labelcolor": INK,
    "lines.linewidth": 1.6, "lines.markersize": 4, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK,
}  # fmt: skip


class Series(NamedTuple):
    """One line.

    Attributes:
        name: for the legend.
        points: (x, y) in order of x; a y that is not finite breaks the line.
        low, high: the band around the line, one y per point; empty: no band.
        dashed: for a reference.
    """

    name: str
    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "epoch",
    percent: bool = False,
    beneath: Series | None = None,
) -> Chart:
    """Draws lines over a common axis.

    Args:
        title: of the y axis.
        series: the lines; those without a finite point are not drawn.
        x_label: of the x axis.
        percent: y are shares, shown as percent.
        beneath: a share, drawn on a small axis of its own below, over the same x.

    Returns:
        The chart with its numbers as a table; its `svg` is "" when there is nothing to draw.
    """
    # A line keeps its colour where others are missing: charts side by side show the same names.
    styled = {number: line for number, line in enumerate(series) if _finite(line)}
    drawn = list(styled.values())
    if not drawn:
        return Chart("", Table([]))
    strip = beneath if beneath is not None and _finite(beneath) else None
    rows = [_HEIGHT, _BENEATH] if strip else [_HEIGHT]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, sum(rows)), layout="constrained")
        grid = figure.subplots(
            len(rows), sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows}
        )
        axes: list[Axes] = list(grid[:, 0])
        axes[0].set_title(title, loc="left")
        for number, line in styled.items():
            _draw(axes[0], line, number)
        values = [y for line in drawn for _, y in _finite(line)]
        if min(values) >= 0 and axes[0].get_ylim()[0] < 0:
            axes[0].set_ylim(bottom=-0.03 * max(values), top=None if max(values) else 1)
        axes[0].ticklabel_format(axis="y", style="plain", useOffset=False)
        if percent:
            axes[0].yaxis.set_major_formatter(_percent())
        if strip:
            _draw(axes[1], strip._replace(dashed=False), len(COLOURS) - 1, marker=False)
            axes[1].set_title(strip.name, loc="left", size=9, weight="normal")
            axes[1].set_ylim(-0.05, 1.05)
            axes[1].yaxis.set_major_formatter(_percent())
            axes[1].set_yticks([0, 0.5, 1])
        places = [float(x) for line in drawn for x, _ in line.points]
        if min(places) == max(places):
            axes[0].set_xlim(places[0] - 1, places[0] + 1)
        whole = all(x.is_integer() for x in places)
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        axes[-1].set_xlabel(x_label)
        if len(drawn) > 1 or drawn[0].name != title:
            columns = max(1, min(len(drawn), 60 // (8 + max(len(line.name) for line in drawn))))
            handles = axes[0].get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower left", ncols=columns)
        words = "; ".join(_in_words(line, percent) for line in drawn)
        return Chart(svg(figure, title, words), _numbers(series, x_label, percent))


def _numbers(series: Sequence[Series], x_label: str, percent: bool) -> Table:
    """The points of the lines, thinned to a readable number of rows."""
    lines = [line for line in series if line.points]
    columns = [dict(line.points) for line in lines]
    places = sorted({x for column in columns for x in column})
    if len(places) > _MOST_ROWS:
        places = [
            places[i] for i in np.linspace(0, len(places) - 1, _MOST_ROWS).round().astype(int)
        ]
    rows = [
        [number_text(x), *(number_text(c[x], percent) if x in c else "-" for c in columns)]
        for x in places
    ]
    header = [x_label, *(line.name for line in lines)]
    return Table(rows, header, numbers=range(len(header)))


def svg(figure: Figure, title: str, description: str) -> str:
    """A figure as an `<svg>` element that can stand in a page or in a file.

    Args:
        figure: the figure, drawn in `COLOURS`, `INK`, `PAPER` and `GRID`.
        title: its name, read out by screen readers.
        description: its content in words.
    """
    file = io.StringIO()
    # The salt makes the names of markers and clips unique to a chart, and the same every time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # figure_1 and so on: the same in every chart
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    # Laid out in DejaVu Sans, which is wider than readers' fonts, so no text overflows.
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]*", r"font: \1\2 system-ui, sans-serif", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable}, {colour})")
    label = html.escape(f"{title}. {description}")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def css(colour: str) -> str:
    """A colour as the page's variable, which dark mode changes."""
    return f"var({_VARIABLES[colour]}, {colour})"


def _percent() -> FuncFormatter:
    """Shares as percent; Matplotlib's own writes 99.00%."""
    return FuncFormatter(lambda share, place: f"{100 * share:.4g}%")


def _finite(line: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in line.points if math.isfinite(y)]


def _draw(axes: Axes, line: Series, number: int, *, marker: bool = True) -> None:
    colour = COLOURS[number % len(COLOURS)]
    x = [point[0] for point in line.points]
    y = np.array([point[1] for point in line.points], float)
    if line.low and line.high:
        axes.fill_between(x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    options: dict[str, Any] = {"color": colour, "label": line.name}
    if line.dashed:
        options["linestyle"] = (0, (5, 3))
    if marker and (not line.dashed or len(x) == 1):  # one point makes no line
        options["marker"] = MARKERS[number % len(MARKERS)]
        options["markevery"] = max(1, -(-len(x) // _MOST_MARKERS))
    axes.plot(x, np.where(np.isfinite(y), y, np.nan), **options)


def _in_words(line: Series, percent: bool) -> str:
    points = _finite(line)
    (first, start), (last, end) = points[0], points[-1]
    words = f"{line.name}: {number_text(start, percent)} at {number_text(first)}"
    if len(points) > 1:
        words += f", {number_text(end, percent)} at {number_text(last)}"
    return words
