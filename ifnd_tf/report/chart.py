"""Line charts as stand-alone SVG text: no plotting library, no script, no font to load."""

import html
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Okabe & Ito's palette, which colour-blind readers can tell apart; yellow left out on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")

_WIDTH, _HEIGHT = 480, 230  # Of the plot with its axes; the legend comes below.
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 30, 40
_LEGEND_ROW, _CHARACTER = 18, 6.1
_MOST_MARKERS = 30


class Series(NamedTuple):
    """One line.

    Attributes:
        name: for the legend.
        points: (x, y) in order of x; a y that is not finite breaks the line.
        low, high: the band around the line, one y per point; empty: no band.
        dashed: for what serves as a reference.
    """

    name: str
    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


class _Scale(NamedTuple):
    """Data to SVG coordinates."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover `[low, high]`.

    Args:
        low: least value, finite.
        high: greatest value, >= low.
        count: about how many ticks.

    Returns:
        Ascending, the first <= low and the last >= high.
    """
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str = "epoch", percent: bool = False
) -> str:
    """Draws lines over a common axis.

    Args:
        title: what the y axis shows.
        series: the lines; those without a finite point are left out.
        x_label: what the x axis shows.
        percent: y are shares, shown as percent.

    Returns:
        An `<svg>` element, or "" when nothing is left to draw.
    """
    drawn = [line for line in series if any(math.isfinite(y) for _, y in line.points)]
    if not drawn:
        return ""
    scale, x_ticks, y_ticks = _axes(drawn)
    rows = list(_legend_rows([line.name for line in drawn]))
    height = _HEIGHT + _LEGEND_ROW * len(rows) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#333">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="16" font-size="13" font-weight="600">{html.escape(title)}</text>',
        *_grid(scale, x_ticks, y_ticks, percent),
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle" fill="#666">{html.escape(x_label)}</text>',
    ]
    # References last: a dashed line still shows what it crosses, and hides nothing.
    for number in sorted(range(len(drawn)), key=lambda number: drawn[number].dashed):
        parts += _line(drawn[number], COLOURS[number % len(COLOURS)], scale, percent)
    parts += _legend(drawn, rows)
    return "\n".join([*parts, "</svg>"])


def number_text(value: float, percent: bool = False) -> str:
    """A number with three significant digits or so."""
    if not math.isfinite(value):
        return str(value)
    if percent:
        return f"{value:.1%}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _axes(series: Sequence[Series]) -> tuple[_Scale, list[float], list[float]]:
    points = [(x, y) for line in series for x, y in line.points if math.isfinite(y)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ys += [y for line in series for y in (*line.low, *line.high) if math.isfinite(y)]
    y_ticks = ticks(min(ys), max(ys), 4)
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 1, high + 1
    x_ticks = [x for x in ticks(low, high, 6) if low <= x <= high]
    return _Scale((low, high), (y_ticks[0], y_ticks[-1])), x_ticks, y_ticks


def _grid(
    scale: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], percent: bool
) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    # Neighbouring ticks must not read alike: 86% and 86% for 0.862 and 0.864.
    gap = y_ticks[1] - y_ticks[0]
    decimals = max(0, math.ceil(-math.log10(gap * (100 if percent else 1)) - 1e-9))
    for y in y_ticks:
        _, at = scale.place(scale.x[0], y)
        text = f"{y:.{decimals}%}" if percent else f"{y:,.{decimals}f}"
        yield f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#e3e3e3"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    for x in x_ticks:
        at, _ = scale.place(x, scale.y[0])
        yield f'<path d="M{at:.1f} {bottom}v4" stroke="#999"/>'
        yield (f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{number_text(x)}</text>')
    yield f'<path d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}" stroke="#999"/>'


def _line(line: Series, colour: str, scale: _Scale, percent: bool) -> Iterator[str]:
    if line.low and line.high:
        xs = [x for x, _ in line.points]
        edge = [*zip(xs, line.high, strict=True), *reversed([*zip(xs, line.low, strict=True)])]
        placed = [scale.place(x, y) for x, y in edge if math.isfinite(y)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        yield f'<polygon points="{points}" fill="{colour}" fill-opacity="0.15"/>'
    path, pen_down = "", False
    for x, y in line.points:
        if math.isfinite(y):
            at = scale.place(x, y)
            path += f"{'L' if pen_down else 'M'}{at[0]:.1f} {at[1]:.1f}"
        pen_down = math.isfinite(y)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
    if line.dashed or len(line.points) > _MOST_MARKERS:
        return
    for x, y in line.points:
        if math.isfinite(y):
            at = scale.place(x, y)
            text = f"{line.name}: {number_text(y, percent)} at {number_text(x)}"
            yield (
                f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="2.4" fill="{colour}">'
                f"<title>{html.escape(text)}</title></circle>"
            )


def _legend_rows(names: Sequence[str]) -> Iterator[list[tuple[int, float]]]:
    """Lays names out in rows: lists of (which, x)."""
    row: list[tuple[int, float]] = []
    x = float(_LEFT)
    for number, name in enumerate(names):
        width = 30 + _CHARACTER * len(name)
        if row and x + width > _WIDTH - _RIGHT:
            yield row
            row, x = [], float(_LEFT)
        row.append((number, x))
        x += width
    yield row


def _legend(series: Sequence[Series], rows: Sequence[Sequence[tuple[int, float]]]) -> Iterator[str]:
    for place, row in enumerate(rows):
        y = _HEIGHT + _LEGEND_ROW * place + 8
        for number, x in row:
            colour = COLOURS[number % len(COLOURS)]
            dash = ' stroke-dasharray="5 4"' if series[number].dashed else ""
            name = html.escape(series[number].name)
            yield f'<path d="M{x:.0f} {y}h16" stroke="{colour}" stroke-width="2.5"{dash}/>'
            yield f'<text x="{x + 21:.0f}" y="{y + 4}">{name}</text>'
