"""Charts are well-formed SVG and put points where they belong."""

import math
import re
from xml.etree import ElementTree

import pytest

from ifnd_tf.report.chart import Series, line_chart, number_text, ticks

_NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}


def _marks(svg):
    tree = ElementTree.fromstring(svg)
    return [
        (float(mark.get("cx")), float(mark.get("cy")), mark.find("svg:title", _NAMESPACE).text)
        for mark in tree.findall(".//svg:circle", _NAMESPACE)
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.13, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 3, [2.6, 2.8, 3.0, 3.2, 3.4]),  # 3 +- 10%: 2.7 to 3.3
        (-5, 5, [-6, -4, -2, 0, 2, 4, 6]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_points_lie_on_a_straight_line_when_the_data_do():
    (x1, y1, _), (x2, y2, _), (x3, y3, text) = _marks(
        line_chart("t", [Series("a", [(0, 0.0), (1, 1.0), (4, 4.0)])])
    )
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 4, abs=1e-2)
    assert (y2 - y1) / (y3 - y1) == pytest.approx(1 / 4, abs=1e-2)
    assert y3 < y1 and x3 > x1  # larger is further up and to the right
    assert text == "a: 4 at 4"


def test_a_value_that_is_not_finite_breaks_the_line():
    svg = line_chart("t", [Series("a", [(0, 0.0), (1, math.nan), (2, 1.0), (3, 2.0)])])
    (path,) = re.findall(r'<path d="(M[^"]*)" fill="none"', svg)
    assert path.count("M") == 2 and path.count("L") == 1
    assert "nan" not in svg


def test_nothing_to_draw_is_an_empty_string():
    assert line_chart("t", []) == ""
    assert line_chart("t", [Series("a", [(0, math.nan)])]) == ""


def test_names_are_escaped():
    svg = line_chart("a < b", [Series("<script>", [(0, 1.0)])])
    assert "<script>" not in svg
    ElementTree.fromstring(svg)


def test_a_band_surrounds_its_line():
    series = Series("a", [(0, 1.0), (1, 1.0)], low=[0.0, 0.0], high=[2.0, 2.0])
    svg = line_chart("t", [series])
    (points,) = re.findall(r'<polygon points="([^"]*)"', svg)
    heights = {float(point.split(",")[1]) for point in points.split()}
    (line,) = {y for _, y, _ in _marks(svg)}
    assert len(heights) == 2
    assert line == pytest.approx(sum(heights) / 2, abs=0.1)


def test_neighbouring_ticks_never_read_alike():
    svg = line_chart("t", [Series("a", [(0, 0.861), (1, 0.864)])], percent=True)
    labels = re.findall(r'text-anchor="end">([^<]*)<', svg)
    assert len(set(labels)) == len(labels) > 2


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [(0.98312, True, "98.3%"), (12345.6, False, "12,346"), (60.0, False, "60"),
     (0.00001, True, "1.0e-05"), (math.inf, False, "inf")],
)  # fmt: skip
def test_number_text(value, percent, text):
    assert number_text(value, percent) == text
