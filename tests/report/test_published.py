"""The table of ten seeds is what the comparison wrote, and stands beside the same settings only."""

import json
import pathlib

import pytest

import main
from ifnd_tf.report import published
from ifnd_tf.run.records import RunRecords

RESULTS = pathlib.Path(__file__).parents[2] / "experiments/results/digits_compare"


def test_the_table_is_the_comparisons():
    found = published.read()
    compared = json.loads((RESULTS / "compare.json").read_text())["variants"]
    for name, variants in found["metrics"].items():
        for variant, (mean, std) in variants.items():
            metric = compared[variant]["metrics"][name]
            assert metric["seeds"] == found["seeds"]
            assert (metric["mean"], metric["std"]) == pytest.approx((mean, std), abs=1e-4)
    flags = (RESULTS / "config.flags").read_text().splitlines()
    assert {f"--{name}={text}" for name, text in found["flags"].items()} <= set(flags)


def test_the_demo_stands_beside_it_and_other_settings_do_not():
    flags = main.parse([]).as_flags()
    run = RunRecords("runs/digits", flags, [], {"linear_1pct_top1": 0.8}, [], [], {})
    table = published.beside(run)
    assert table.rows == [["linear probe accuracy, 1% of the labels", "80.0%",
                           "70.4 ± 1.8%", "84.2 ± 1.4%", "94.8 ± 0.7%"]]  # fmt: skip
    assert "2026-11-26" in table.caption
    assert not published.beside(run._replace(flags={**flags, "epochs": "5"})).rows
    assert not published.beside(run._replace(flags={**flags, "saved_model": "theirs"})).rows
