"""The comparison's numbers, by hand and by scipy; and its files."""

import json
import math
import xml.etree.ElementTree

import numpy as np
import pytest
from scipy import stats

from ifnd_tf.report import (
    compare_page,
    compare_pairs,
    compare_ranks,
    compare_statistics,
    compare_tables,
)
from ifnd_tf.report.compare_verdict import verdict
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


def summary_of(runs):
    summary = compare_statistics.summarise(runs)
    return {**summary, "ranking": compare_ranks.ranking(summary, runs)}


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


def test_the_verdict_is_sentences(runs):
    text = "\n".join(verdict(summary_of(runs)))
    assert text == (
        "By mean rank over 1 measure and 3 seeds, ifnd is the best of 2 variants without labels: "
        "2.00 (95% interval 2.00 to 2.00). In the mean of the measures its lead over none is +1.7 "
        "points (95% interval +0.2 to +3.1), beyond chance.\n"
        "ifnd closes 36% (7% to 51%) of the mean gap between no removal and removal by true "
        "labels.\n"
        "Against none, ifnd is clearly better in 1 and clearly worse in 0 of 1 protocol; the "
        "largest differences: kNN accuracy +1.7 points (95% interval +0.2 to +3.1)."
    )
    assert verdict(summary_of({"none": runs["none"]})) == []


def test_one_seed_has_no_intervals(runs):
    one = summary_of({name: dict(list(seeds.items())[:1]) for name, seeds in runs.items()})
    assert verdict(one) == [
        "With one seed ifnd ranks first of 2 variants without labels, +2.0 points from none in the "
        "mean of the measures.",
        "One seed cannot tell ifnd from none: differences have no interval yet.",
    ]
    tables = compare_tables.tables(one)
    assert tables["Differences"].rows[0][2:] == ["+2.00 ± n/a", "n/a", "1 of 1", "n/a"]
    assert tables["Ranking"].rows[1][:5] == ["ifnd", "2.00", "n/a", "+2.0", "n/a"]


def test_the_oracle_may_be_the_baseline(runs):
    text = verdict(summary_of({name: runs[name] for name in ("oracle", "ifnd")}))
    assert all(isinstance(line, str) for line in text)


def test_the_best_may_be_best_by_chance_or_not_at_all(runs):
    # Ranks 2, 4, 3 of four, where ifnd has 3, 2, 2 and none 4, 3, 4.
    runs = {**runs, "other": {0: run(0.93), 1: run(0.91), 2: run(0.95)}}
    text = verdict(summary_of(runs))[0]
    assert "ifnd is the best of 3 variants without labels: 2.33" in text
    # Beyond chance by itself, but not as one of two comparisons.
    assert "lead over none is +1.7 points (95% interval -0.4 to +3.7), not beyond chance;" in text
    assert "the second, other (3.00), it is +0.7 points (95% interval -3.1 to +4.5), not" in text
    worse = {"none": runs["none"], "ifnd": {s: run(0.5) for s in range(3)}}
    assert verdict(summary_of(worse))[0].startswith("No variant without labels ranks above none")
    # A rule that needs no detector is a treatment, not the lower end.
    alone = {"sce": {s: run(0.95 + s / 100, "none") for s in range(3)}, "oracle": runs["oracle"]}
    for each in alone["sce"].values():
        each.flags["treatment"] = "sce"
    assert summary_of(alone)["variants"]["oracle"]["metrics"]["knn_top1"].get("gap_closed") is None


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
    assert summary["variants"]["late"] == {
        "seeds": [], "flags": {}, "masked_share": None, "metrics": {},
    }  # fmt: skip


def test_mean_ranks_by_hand():
    # Ranks by the first measure 1, 2.5, 2.5, 4; by the second 3, 1, 2, 4, as NaN is worst.
    table = [[0.9, 0.1], [0.8, 0.3], [0.8, 0.2], [0.7, math.nan]]
    assert compare_ranks.mean_ranks(table) == pytest.approx([2, 1.75, 2.25, 4])


def test_ranks_are_paired_by_seed_and_cover_the_seeds_that_all_have():
    values = {
        "a": {"m": {0: 0.9, 1: 0.5, 2: 0.1}},
        "b": {"m": {0: 0.8, 1: 0.4, 7: 0.9}},
        "late": {"m": {}},
    }
    found = compare_ranks.rank(values)
    # Above in both seeds: no interval, although the seeds differ by more than the variants.
    assert found["a"] == (1.0, 1.0, 1.0, {0: 1.0, 1: 1.0})
    assert list(found) == ["a", "b"]
    assert compare_ranks.rank({"a": {"m": {0: 1.0}}, "b": {"m": {1: 1.0}}}) == {}


def test_a_ranks_interval_is_that_of_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    own, other = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    values = {n: {"m": dict(enumerate(v))} for n, v in (("own", own), ("other", other))}
    found = compare_ranks.rank(values)["own"]
    won = (own > other).mean()  # the mean rank is 2 - won, of variance won (1 - won) / n
    half = 1.96 * math.sqrt(won * (1 - won) / 40)
    assert found.mean == pytest.approx(2 - won)
    assert [found.low, found.high] == pytest.approx([2 - won - half, 2 - won + half], abs=0.03)


def test_many_comparisons_widen_the_interval():
    one, other = {0: 0.1, 1: 0.2, 2: 0.4}, dict.fromkeys(range(3), 0.0)
    alone = compare_statistics.difference(other, one)
    among = compare_statistics.difference(other, one, comparisons=10)
    wanted = stats.ttest_1samp(list(one.values()), 0).confidence_interval(1 - 0.05 / 10)
    assert among.mean + among.half_width == pytest.approx(wanted.high)
    assert among.half_width > alone.half_width


def test_cost_is_beside_the_gain(runs):
    for variant, speed in (("none", 1000.0), ("ifnd", 800.0)):
        for each in runs[variant].values():
            each.flags["batch_size"] = "100"
            each.results["train_images_per_second"] = speed
    summary = summary_of(runs)
    assert summary["ranking"]["ifnd"]["step_seconds"] == pytest.approx(0.125)
    assert "takes 1.25 times as long a step as none" in verdict(summary)[1]
    row = compare_tables.tables(summary)["Ranking"].rows[1]
    assert row[5:] == ["125.0 ms", "1.25"]


def test_what_variants_find_is_measured_alike(runs):
    for seed, each in runs["ifnd"].items():
        each.results.update(detection_precision=0.5, detection_recall=0.2 + seed / 10)
        each.metrics[-1]["masked_share"] = 0.05
    for each in runs["oracle"].values():
        each.results["treatment_f1"] = 0.25
    for each in runs["none"].values():
        each.metrics[-1]["masked_share"] = 0.0
    table = compare_tables.tables(summary_of(runs))["Pairs"]
    assert table.rows == [
        ["ifnd", "50.0%", "30.0%", "n/a", "n/a", "n/a", "n/a", "5.0%"],
        ["oracle", "n/a", "n/a", "n/a", "n/a", "n/a", "25.0%", "n/a"],
    ]
    assert table.header[3] == "labels: F1" and table.header[6] == "step: F1"


def test_pairs_of_chosen_quality_are_drawn_by_treatment(runs, tmp_path):
    for name, precision, recall, treatment, knn in (
        ("low", "0.25", "0.3", "eliminate", 0.89), ("high", "1.0", "0.3", "eliminate", 0.94),
        ("all", "1.0", "0.8", "eliminate", 0.97), ("drawn", "0.5", "0.3", "attract", 0.95),
    ):  # fmt: skip
        found = {seed: run(knn + seed / 50, "noisy_oracle") for seed in range(3)}
        for each in found.values():
            each.flags.update(oracle_precision=precision, oracle_recall=recall, treatment=treatment)
        runs[name] = found
    for each in runs["ifnd"].values():
        each.results.update(detection_precision=0.6, detection_recall=0.42)
    summary = summary_of(runs)
    assert set(summary["ranking"]) == {"none", "ifnd", "oracle"}
    charts = compare_pairs.pair_charts(summary, runs)
    assert list(charts) == ["pairs_knn_top1_1", "pairs_knn_top1_2"]
    # A variant with one seed so far has no interval; the band goes on beside it.
    del runs["all"][1], runs["all"][2]
    for recall in ("0.8", "0.3"):
        for each in runs["all"].values():
            each.flags["oracle_recall"] = recall
        assert compare_pairs.pair_charts(summary_of(runs), runs)
    for each in runs["all"].values():
        each.flags["oracle_recall"] = "0.8"
    numbers = charts["pairs_knn_top1_1"].numbers
    # none: 0.90, 0.92, 0.94. The oracle, of precision and recall 1, has no precision of a refresh.
    assert numbers.header == [
        "precision of pairs", "recall 30%", "recall 80%", "no gain", "ifnd, recall 42%",
    ]  # fmt: skip
    assert numbers.rows == [
        ["0.25", "-1.0%", "-", "0.0%", "-"],
        ["0.6", "-", "-", "-", "1.7%"],
        ["1", "4.0%", "7.0%", "0.0%", "-"],
    ]
    assert "attract" in charts["pairs_knn_top1_2"].svg
    compare_page.write(str(tmp_path), "pairs", runs)
    assert (tmp_path / "compare_pairs_knn_top1_1.svg").exists()
    assert "How good must pairs be?" in (tmp_path / "compare.html").read_text()


def test_many_variants_have_a_row_each(runs):
    many = {f"v{n}": seeds for n, seeds in enumerate([runs["none"]] * 7)}
    table = compare_tables.tables(summary_of(many))["Results"]
    assert table.header == ["", "kNN accuracy"] and table.rows[6][0] == "v6"


def test_results_are_in_the_order_of_the_protocols():
    names = [
        "cluster_nmi", "linear_10pct_top1", "linear_5shot_top1", "knn_top1", "loss", "knn_top5",
        "linear_1pct_top1", "linear_20pct_top1", "linear_1pct_top1_std",
    ]  # fmt: skip
    assert compare_statistics.compared(names) == [
        "knn_top1", "linear_1pct_top1", "linear_5shot_top1", "linear_10pct_top1",
        "linear_20pct_top1", "cluster_nmi",
    ]  # fmt: skip


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
