"""The comparison's numbers, by hand and by scipy; and its files."""

import json
import math
import xml.etree.ElementTree

import numpy as np
import pytest
from scipy import stats

from ifnd_tf.report import compare_page, compare_statistics
from ifnd_tf.run.records import RunRecords


def run(knn: float, detector: str = "ifnd", **results) -> RunRecords:
    metrics = [
        {"epoch": 1, "loss": 3.0, "online_knn_top1": knn - 0.1},
        {"epoch": 2, "loss": 2.0, "online_knn_top1": knn, "detection_precision": knn / 2},
    ]
    return RunRecords(
        "somewhere", {"detector": detector, "treatment": "eliminate"}, metrics,
        {"knn_top1": knn, "note": "text", **results}, [], [], {},
    )  # fmt: skip


@pytest.fixture
def runs():
    return {
        "none": {0: run(0.90, "none"), 1: run(0.92, "none"), 2: run(0.94, "none")},
        "ifnd": {0: run(0.92, train_seconds=3.0), 1: run(0.93), 2: run(0.96)},
        "oracle": {0: run(0.95, "oracle"), 1: run(0.96, "oracle"), 2: run(0.99, "oracle")},
        "late": {},
    }


def test_spread_is_the_sample_standard_deviation():
    # Deviations -2, 0, 2: (4 + 0 + 4) / (3 - 1) = 4.
    assert compare_statistics.spread([1.0, 3.0, 5.0]) == (3.0, 2.0, 3)
    assert math.isnan(compare_statistics.spread([1.0]).std)


def test_differences_are_paired_by_seed():
    one, other = {0: 0.90, 1: 0.92, 2: 0.94}, {0: 0.92, 1: 0.91, 2: 0.97, 9: 0.0}
    found = compare_statistics.difference(one, other)
    assert found.mean == pytest.approx((0.02 - 0.01 + 0.03) / 3)
    assert (found.better, found.seeds) == (2, 3)
    wanted = stats.ttest_rel([0.92, 0.91, 0.97], [0.90, 0.92, 0.94]).confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(wanted.low)
    assert found.mean + found.half_width == pytest.approx(wanted.high)
    assert not found.clear
    assert compare_statistics.difference(one, {9: 1.0}) is None


def test_the_gap_is_measured_over_common_seeds():
    floor, value, ceiling = {0: 0.1, 1: 0.1}, {0: 0.2, 1: 0.2, 2: 0.9}, {0: 0.5, 1: 0.5}
    assert compare_statistics.gap_closed(floor, value, ceiling) == pytest.approx([0.25] * 3)
    # One seed has no interval, and so no share.
    assert compare_statistics.gap_closed({0: 0.1}, {0: 0.2}, {0: 0.5}) is None
    assert compare_statistics.gap_closed(floor, {0: 0.2, 1: 0.9}, {0: 0.5}) is None
    # A ceiling below the floor, or above it by chance only.
    assert compare_statistics.gap_closed(floor, value, {0: 0.05, 1: 0.05}) is None
    assert compare_statistics.gap_closed(floor, value, {0: 0.9, 1: 0.11}) is None
    assert compare_statistics.gap_closed(floor, {7: 0.2}, ceiling) is None


def test_the_gaps_interval_is_where_the_t_test_of_step_minus_share_of_gap_rejects():
    rng = np.random.default_rng(0)
    gap = 0.10 + 0.02 * rng.normal(size=8)
    step = 0.4 * gap + 0.01 * rng.normal(size=8)
    nothing = dict.fromkeys(range(8), 0.0)
    found = compare_statistics.gap_closed(nothing, dict(enumerate(step)), dict(enumerate(gap)))
    assert found.low < found.mean < found.high
    for share, inside in ((found.low, True), (found.high, True), (found.mean, True)):
        assert (stats.ttest_1samp(step - share * gap, 0).pvalue >= 0.05 - 1e-9) == inside
    for share in (found.low - 1e-3, found.high + 1e-3):
        assert stats.ttest_1samp(step - share * gap, 0).pvalue < 0.05


def test_the_conclusion_is_a_sentence(runs):
    text = compare_page.conclusion(compare_statistics.summarise(runs))
    assert text == (
        "Against none, ifnd is clearly better in 1 and clearly worse in 0 of 1 protocols; the "
        "largest differences: kNN accuracy +1.7 points (95% interval +0.2 to +3.1)."
    )
    one = {name: dict(list(seeds.items())[:1]) for name, seeds in runs.items()}
    summary = compare_statistics.summarise(one)
    assert "One seed cannot tell ifnd from none" in compare_page.conclusion(summary)
    assert compare_page._tables(summary)["Differences"].rows[0][2:] == [
        "+2.00 ± n/a", "n/a", "1 of 1", "n/a"
    ]  # fmt: skip
    assert compare_page.conclusion(compare_statistics.summarise({"none": runs["none"]})) == ""


def test_summary(runs):
    summary = compare_statistics.summarise(runs)
    assert summary["baseline"] == "none" and summary["protocols"] == ["knn_top1"]
    ifnd = summary["variants"]["ifnd"]
    assert ifnd["seeds"] == [0, 1, 2] and ifnd["flags"] == {"detector": "ifnd"}
    knn = ifnd["metrics"]["knn_top1"]
    assert knn["mean"] == pytest.approx((0.92 + 0.93 + 0.96) / 3)
    # Differences .02, .01, .02 of gaps .05, .04, .05.
    assert knn["gap_closed"] == pytest.approx(0.05 / 0.14)
    assert "difference" not in summary["variants"]["none"]["metrics"]["knn_top1"]
    assert ifnd["metrics"]["train_seconds"]["values"] == {0: 3.0}
    assert summary["variants"]["late"] == {"seeds": [], "flags": {}, "metrics": {}}


def test_curves_cover_the_epochs_that_all_seeds_have():
    seeds = {0: run(0.9), 1: run(0.8)}
    seeds[1].metrics.append({"epoch": 3, "online_knn_top1": 0.9})
    points = compare_statistics.curve(seeds, "online_knn_top1")
    assert [epoch for epoch, _ in points] == [1, 2]
    assert points[1][1].mean == pytest.approx(0.85)


def test_files(runs, tmp_path):
    printed = compare_page.write(str(tmp_path), "digits", runs)
    assert [line.split() for line in printed.splitlines()][-2:] == [
        ["none", "ifnd", "oracle", "late"],
        [
            "kNN",
            "accuracy",
            *["92.00", "±", "2.00", "93.67", "±", "2.08", "96.67", "±", "2.08", "n/a"],
        ],
    ]
    markdown = (tmp_path / "compare.md").read_text()
    assert "| kNN accuracy | 92.00 ± 2.00 | 93.67 ± 2.08 |" in markdown
    assert "| kNN accuracy | ifnd | +1.67 ± 0.58 | +0.23 to +3.10 | 3 of 3 | 36% (" in markdown
    summary = json.loads((tmp_path / "compare.json").read_text())
    assert summary["variants"]["ifnd"]["metrics"]["train_seconds"]["std"] is None
    for name in ("knn", "loss", "precision"):
        xml.etree.ElementTree.parse(tmp_path / f"compare_{name}.svg")
    assert not (tmp_path / "compare_recall.svg").exists()
    page = (tmp_path / "compare.html").read_text()
    assert page.count("<svg") == 3 and "+1.67 ± 0.58" in page
