"""What pairs of a quality were worth is what the comparison found, and told where it applies."""

import json
import pathlib
import re

import pytest

from ifnd_tf.report import expected_gain
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.records import RunRecords

RESULTS = pathlib.Path(__file__).parents[2] / "experiments/results/noisy_oracle_digits"
GAINS = {
    "data": "digits", "measures": ["knn_top1", "linear_1pct_top1"],
    "gains": {
        "eliminate": {
            "0.1": {"0.2": [0.0, 0.02], "1.0": [0.04, 0.1]},
            "0.4": {"0.2": [0.0, 0.06], "1.0": [0.08, 0.2]},
        }
    },
}  # fmt: skip


def run(precision, recall, treatment="eliminate"):
    results = {"detection_precision": precision, "detection_recall": recall}
    refresh = {"epoch": 3, "precision": precision, "chance_precision": 0.1}
    metrics = [{"epoch": 4, "loss": 1.0}]
    flags = {"detector": "ifnd", "treatment": treatment, "epochs": "4"}
    return RunRecords("runs/one", flags, metrics, results, [refresh], [], {})


def test_the_gains_are_the_comparisons():
    found = expected_gain.read()
    compared = json.loads((RESULTS / "compare.json").read_text())["variants"]
    seen = 0
    for variant in compared.values():
        flags = variant["flags"]
        if flags["detector"] != "noisy_oracle":
            continue
        lines = found["gains"][flags["treatment"]]
        gains = lines[flags["oracle_recall"]][flags["oracle_precision"]]
        for name, gain in zip(found["measures"], gains, strict=True):
            difference = variant["metrics"][name]["difference"]
            assert difference["seeds"] == found["seeds"]
            assert difference["mean"] == pytest.approx(gain, abs=1e-4)
        seen += 1
    assert seen == sum(
        len(points) for lines in found["gains"].values() for points in lines.values()
    )


@pytest.mark.parametrize(
    ("precision", "recall", "gains"),
    [
        (0.2, 0.1, [0, 2]),
        (0.6, 0.1, [2, 6]),
        (0.6, 0.2, [3, 10]),  # halfway between the logarithms of 0.1 and 0.4: 9.5
        (0.05, 0.01, [0, 2]),
        (1.0, 0.9, [8, 20]),
    ],
)
def test_gains_are_interpolated_and_not_extrapolated(precision, recall, gains, monkeypatch):
    monkeypatch.setattr(expected_gain, "read", lambda: GAINS)
    text = expected_gain.expected_gain(run(precision, recall))
    assert [
        int(each)
        for each in re.findall(r"about \+(\d+)|and \+(\d+)", text)
        for each in each
        if each
    ] == gains
    assert text.endswith("points of linear probe accuracy, 1% of the labels")


def test_the_verdict_tells_it_for_treatments_that_were_tried(monkeypatch):
    monkeypatch.setattr(expected_gain, "read", lambda: GAINS)
    told = "were worth about +2 points of kNN accuracy"
    assert told in " ".join(judge(run(0.6, 0.1)).lines())
    assert told not in " ".join(judge(run(0.6, 0.1, "fnd:alpha=0.1")).lines())
    assert told not in " ".join(judge(run(0.0, 0.0)).lines())
