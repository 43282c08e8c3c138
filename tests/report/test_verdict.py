"""The verdict on runs of every kind, from their records."""

import os
import socket
import sys

import pytest

from ifnd_tf.report.summary import main_results, summary
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.records import RunRecords

FLAGS = {"detector": "ifnd", "epochs": "8", "learning_rate": "0.06", "dataset": "folder:a b",
         "seeds": "3"}  # fmt: skip
METRICS = [
    {"epoch": e, "step": 100 * e, "loss": 4.0 - 0.1 * e, "online_knn_top1": 0.8,
     "health_embedding_std": 0.9, "health_effective_rank": 20.0}
    for e in range(1, 9)
]  # fmt: skip
RESULTS = {
    "knn_top1": 0.9, "raw_pixel_knn_top1": 0.5, "untrained_knn_top1": 0.4,
    "num_evaluation_examples": 400, "health_warnings": [], "health_effective_rank": 31.4,
    "health_embedding_std": 0.97, "random_loss": 5.0,
}  # fmt: skip
FEW_LABELS = {"linear_1pct_top1": 0.8, "raw_pixel_linear_1pct_top1": 0.6}
RUNNING = {"state": "running", "text": "", "time": 0.0, "host": socket.gethostname(),
           "pid": os.getpid()}  # fmt: skip
DEAD = 2**22 + 1  # above the highest pid of Linux
DETECTION = [{"epoch": 3, "precision": 0.6, "chance_precision": 0.1}]


def run(flags=(), results=(), metrics=METRICS, detection=DETECTION, status=()):
    return RunRecords(
        "runs/a b", {**FLAGS, **dict(flags)}, metrics, {**RESULTS, **dict(results)}, detection,
        [], dict(status),
    )  # fmt: skip


def answers(records):
    return [each.answer for each in judge(records).judgements]


def commands(records):
    return [step.command for step in judge(records).steps]


def test_the_summary_shows_every_number_of_labels_the_fewest_first():
    results = {"linear_20pct_top1": 0.7, "linear_5pct_top1": 0.6, "linear_5shot_top1": 0.5,
               "finetune_5pct_top1": 0.4, "linear_5pct_top1_std": 0.1}  # fmt: skip
    rows = dict(main_results(run(results=results).results))
    assert [rows[name] for name in rows if "label" in name] == ["60.0%", "70.0%", "50.0%", "40.0%"]
    assert "5 labels a class" in summary("mine", run(results=results))


def test_a_good_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ifnd"])
    assert answers(run()) == ["yes"] * 4
    text = " ".join(judge(run()).lines())
    for words in ("kNN accuracy 90.0% (raw pixels 50.0%, an untrained network 40.0%)",
                  "60.0% of the detected pairs share a class, 10.0% of all pairs do",
                  "about 31 directions; the mean cosine of two images is 0.06",
                  "changed by +0.0 points"):  # fmt: skip
        assert words in text
    assert commands(run()) == [
        "ifnd --mode=embed --workdir='runs/a b'",
        "ifnd --flagfile='runs/a b/config.flags' --workdir='runs/a b-compare' --mode=compare",
    ]


@pytest.mark.parametrize(
    ("results", "answer", "words"),
    [
        # Two standard errors of a difference: 2 sqrt(2 x 0.24 / 400) = 0.069.
        ({"raw_pixel_knn_top1": 0.86, "knn_top1": 0.9}, "no", "no clear difference"),
        ({"raw_pixel_knn_top1": 0.97, "knn_top1": 0.98}, "no", "kNN saturates"),
        ({"raw_pixel_knn_top1": 0.95, "knn_top1": 0.6}, "no", "60.0%"),
        (
            {"raw_pixel_knn_top1": 0.97, **FEW_LABELS},
            "partly",
            "linear probe accuracy, 1% of the labels 80.0% (raw pixels 60.0%)",
        ),
        ({"raw_pixel_knn_top1": 0.9, **FEW_LABELS}, "yes", "no clear difference"),
    ],
)
def test_a_difference_must_be_clear(results, answer, words):
    found = judge(run(results=results)).judgements[0]
    assert found.answer == answer and words in found.reason


def test_pairs_are_measured_against_chance_or_not_at_all():
    chance = [{"epoch": 3, "precision": 0.12, "chance_precision": 0.1}]
    assert answers(run(detection=chance))[1] == "no"
    # The last refresh that measured anything counts.
    assert answers(run(detection=[*DETECTION, {"epoch": 4, "precision": None}]))[1] == "yes"
    assert answers(run(detection=[{"epoch": 3}]))[1] == "-"
    assert answers(run(detection=[], metrics=METRICS[:7]))[1] == "not yet"
    assert judge(run(detection=[])).judgements[1].reason == "nothing in 8 epochs"
    assert answers(run(detection=[]))[1] == "no"
    assert len(answers(run(flags={"detector": "none"}))) == 3


def test_collapse_is_told_by_the_evaluation_or_else_while_training():
    collapsed = {"health_warnings": ["Effective rank 1.1 is below 3: collapse."]}
    assert answers(run(results=collapsed))[2] == "no"
    assert "--learning_rate=0.03" in commands(run(results=collapsed))[0]
    said = {"health_warnings": None, "training_warnings": ["epoch 3: Embedding std: (collapse)."]}
    assert answers(run(results=said))[2] == "no"
    said["training_warnings"] = ["epoch 3: more than half of the negatives are masked."]
    assert answers(run(results=said))[2] == "yes"
    metrics = [*METRICS[:-1], {**METRICS[-1], "loss": float("nan")}]
    assert answers(run(metrics=metrics))[2] == "no"


def test_long_enough_is_told_by_the_last_quarter():
    rising = [{**each, "online_knn_top1": 0.1 * each["epoch"]} for each in METRICS]
    assert answers(run(metrics=rising))[3] == "no"
    assert "--epochs=16" in commands(run(metrics=rising))[0]
    short = [{**each, "step": each["epoch"]} for each in METRICS]
    assert answers(run(metrics=short))[3] == "no"
    assert answers(run(results={"random_loss": 3.3}))[3] == "no"
    blind = [{"epoch": e["epoch"], "step": e["step"], "loss": 3.0} for e in METRICS]
    assert answers(run(metrics=blind))[3] == "-"


@pytest.mark.parametrize(
    ("status", "answer", "command"),
    [(RUNNING, "not yet", "--mode=watch"), ({"state": "stopped"}, "no", "--flagfile="),
     ({"state": "failed"}, "no", "--flagfile="), ({**RUNNING, "pid": DEAD}, "no", "--flagfile=")],
)  # fmt: skip
def test_an_unfinished_run(status, answer, command):
    records = run(metrics=METRICS[:3], results={}, status=status)
    assert answers(records)[3] == answer
    assert len(commands(records)) == 1 and command in commands(records)[0]


def test_without_labels_there_is_no_verdict_on_accuracy():
    metrics = [
        {k: v for k, v in each.items() if k != "online_knn_top1"}
        | {"positive_similarity": 0.8 + 0.001 * each["epoch"]}
        for each in METRICS
    ]
    records = run(metrics=metrics, detection=[{"epoch": 3}])._replace(
        results={"health_effective_rank": 9.0}
    )
    assert answers(records) == ["-", "-", "yes", "yes"]
    assert [each.reason for each in judge(records).judgements[:2]] == [
        "not measured, since that needs labelled images"
    ] * 2
    assert commands(records)[0].startswith(("ifnd --mode=embed", "python"))
    done = records._replace(results={**records.results, "embedded_images": 40})
    assert not any("--mode=embed" in each for each in commands(done))


def test_a_warning_is_said_once():
    collapsed, masked = "epoch 3: rank 1.1 (collapse).", "epoch 4: few negatives are left."
    said = {"health_warnings": None, "training_warnings": [collapsed, masked]}
    text = summary("mine", run(results=said))
    assert text.count("rank 1.1") == 1 and f"warning: {masked}" in text


def test_nothing_is_said_of_a_directory_without_records():
    assert judge(run(metrics=[])._replace(results={})).judgements == []


def test_the_report_of_a_run_that_ends_looks_ahead():
    records = run(status=RUNNING)  # while the report itself is written
    assert commands(records) == commands(run())
    (command,) = commands(records._replace(results={}))
    assert "--mode=watch" in command


def untrained(results, **flags):
    """The records of a directory in which nothing was trained."""
    return run(flags=flags, metrics=[], detection=[])._replace(results=results)


def test_of_an_encoder_from_elsewhere_only_what_was_done_is_told(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ifnd"])
    evaluated = {n: v for n, v in RESULTS.items() if n in ("knn_top1", "raw_pixel_knn_top1")}
    records = untrained(evaluated, saved_model="m", mode="evaluate,report")
    assert judge(records).lines() == [
        "better than raw pixels: yes; kNN accuracy 90.0% (raw pixels 50.0%)"
    ]
    assert commands(records) == ["ifnd --mode=embed --workdir='runs/a b'"]
    for flag in ("saved_model", "embeddings", "init_from"):
        records = untrained({"embedded_images": 40}, mode="embed", **{flag: "m"})
        assert records.given_encoder == f"--{flag}=m" and judge(records).lines() == []
        assert commands(records) == [
            "ifnd --preset=photos '--dataset=folder:a b' "
            "'--detect_with=runs/a b/embeddings/embeddings.npz'"
        ]
    # A run that started from weights is a run.
    assert len(answers(run(flags={"init_from": "m", "mode": "train"}))) == 4
    assert not untrained({}, init_from="m", mode="train,embed").given_encoder


def test_the_closing_text_has_the_verdict_before_there_are_results():
    text = summary(
        "mine", run(metrics=METRICS[:3], status={"state": "stopped"})._replace(results={})
    )
    assert "trained long enough: no; 3 of 8 epochs done" in text and "next" in text
    embedded = summary("mine", untrained({"embedded_images": 40}, saved_model="m", mode="embed"))
    assert embedded.startswith("mine: results in runs/a b\n\nnext\n") and "epoch" not in embedded
