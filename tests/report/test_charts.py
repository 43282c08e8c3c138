"""Charts are well-formed SVG, put points where they belong and can be told apart."""

import math
import re
from xml.etree import ElementTree

import pytest

from ifnd_tf.report.charts import COLOURS, Series
from ifnd_tf.report.charts import line_chart as chart
from ifnd_tf.run.metric_names import number_text


def line_chart(*args, **options):
    """The chart's SVG."""
    return chart(*args, **options).svg


_SVG = "{http://www.w3.org/2000/svg}"


def marks(svg):
    """Coordinates of the markers, line by line."""
    tree = ElementTree.fromstring(svg)
    return [
        [(float(use.get("x")), float(use.get("y"))) for use in group.iter(f"{_SVG}use")]
        for group in tree.iter(f"{_SVG}g")
        if len(group.findall(f"{_SVG}use")) > 1
    ]


def test_points_lie_on_a_straight_line_when_the_data_do():
    svg = line_chart("a", [Series("a", [(0, 0.0), (1, 1.0), (4, 4.0)])])
    ((x1, y1), (x2, y2), (x3, y3)) = marks(svg)[0]
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 4, abs=1e-2)
    assert (y2 - y1) / (y3 - y1) == pytest.approx(1 / 4, abs=1e-2)
    assert y3 < y1 and x3 > x1  # larger is further up and to the right


def test_a_value_that_is_not_finite_breaks_the_line():
    svg = line_chart("a", [Series("a", [(0, 0.0), (1, math.nan), (2, 1.0), (3, math.inf), (4, 1)])])
    assert len(marks(svg)[0]) == 3
    (path,) = re.findall(rf'd="([^"]*)"[^>]*stroke: var\(--series-1, {COLOURS[0]}\)', svg)[:1]
    assert path.count("M") >= 2
    assert "nan" not in svg and "inf" not in path


def test_nothing_to_draw_is_an_empty_string():
    assert line_chart("a", []) == ""
    assert line_chart("a", [Series("a", [(0, math.nan)])]) == ""


def test_names_are_escaped():
    svg = line_chart("a < b", [Series("<script>", [(0, 1.0)]), Series('"', [(0, 2.0)])])
    assert "<script>" not in svg
    assert ElementTree.fromstring(svg).get("aria-label").startswith("a < b. <script>: 1 at 0")


def test_lines_differ_in_more_than_colour():
    lines = [Series(str(i), [(x, x * i + 1.0) for x in range(3)]) for i in range(4)]
    svg = line_chart("t", lines)
    shapes = re.findall(r'<path id="(m\w+)" d="([^"]*)"', svg)
    assert len({" ".join(d.split()) for _, d in shapes}) >= 4
    dashed = line_chart("t", [Series("a", lines[0].points, dashed=True)])
    assert "stroke-dasharray" in dashed and "stroke-dasharray" not in svg


def test_a_line_keeps_its_colour_beside_one_without_numbers():
    none, ifnd = Series("none", [(0, 1.0), (1, 1.0)]), Series("ifnd", [(0, 2.0), (1, 3.0)])
    second = f"stroke: var(--series-2, {COLOURS[1]})"
    assert second in line_chart("t", [none, ifnd])
    assert second in line_chart("t", [none._replace(points=[]), ifnd])
    assert second not in line_chart("t", [ifnd])


def test_percent_has_no_more_digits_than_it_needs():
    svg = line_chart("t", [Series("a", [(0, 0.965), (1, 0.99)])], percent=True)
    ticks = re.findall(r"<text[^>]*>([\d.]+)%</text>", svg)
    assert "97" in ticks and "97.00" not in ticks


def test_a_band_surrounds_its_line():
    series = Series("a", [(0, 1.0), (1, 1.0)], low=[0.0, 0.0], high=[2.0, 2.0])
    svg = line_chart("a", [series])
    assert re.search(r"opacity: 0.15", svg)
    assert "opacity: 0.15" not in line_chart("a", [Series("a", series.points)])


def test_the_share_beneath_shares_the_axis():
    lines = [Series("a", [(0, 1.0), (10, 2.0)])]
    beneath = Series("acceptance rate", [(0, 0.0), (10, 1.0)])
    svg = line_chart("a", lines, beneath=beneath)
    assert "acceptance rate" in svg
    assert "acceptance rate" not in line_chart("a", lines, beneath=Series("acceptance rate", []))


def test_a_page_can_choose_the_colours_and_the_size():
    svg = line_chart("a", [Series("a", [(0, 1.0), (1, 2.0)])])
    assert f"var(--series-1, {COLOURS[0]})" in svg and "var(--ink, #333333)" in svg
    root = ElementTree.fromstring(svg)
    assert root.get("width") is None and root.get("viewBox")


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [(0.98312, True, "98.3%"), (12345.6, False, "12,346"), (60.0, False, "60"),
     (0.00001, True, "1.0e-05"), (math.inf, False, "inf")],
)  # fmt: skip
def test_number_text(value, percent, text):
    assert number_text(value, percent) == text


def test_one_point_of_a_dashed_line_is_seen():
    lines = [Series("a", [(0, 0.0), (1, 1.0)]), Series("level", [(1, 2.0)], dashed=True)]
    svg = line_chart("a", lines)
    level = line_chart("a", [lines[0], lines[1]._replace(points=[(0, 2.0), (1, 2.0)])])
    assert svg.count("<use") > level.count("<use")
