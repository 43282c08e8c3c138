"""Another terminal's view of a run: what it says of one that runs, ended or died."""

import io
import json
import os
import socket
import time

import pytest
from rich.console import Console

from ifnd_tf.errors import UserError
from ifnd_tf.report.summary import summary
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.records import read_run
from ifnd_tf.run.state import state as told
from ifnd_tf.stages import watch

FLAGS = "--experiment=mine\n--epochs=10\n--detector=ifnd\n--warmup_epochs=2\n"
DEAD = 2**22 + 1  # above the largest process number of Linux and macOS


def write_run(path, *, epochs=3, state="running", pid=None, host=None, age=0.0, refreshes=1):
    (path / "detection").mkdir(parents=True)
    (path / "config.flags").write_text(FLAGS)
    records = [
        {"epoch": e + 1, "loss": 4.0 - e, "epoch_seconds": 60.0, "images_per_second": 1234.0,
         "embedding_std": 0.9}
        for e in range(epochs)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for refresh in range(refreshes):
        (path / "detection" / f"{refresh + 2:04d}.json").write_text(
            json.dumps(
                {"epoch": refresh + 2, "acceptance_rate": 0.25, "precision": 0.5,
                 "clusters": [4, 8], "empty_clusters": 1}
            )
        )  # fmt: skip
    sign = {"state": state, "text": "epoch 4/10  training", "time": time.time() - age,
            "pid": pid or os.getpid(), "host": host or socket.gethostname()}  # fmt: skip
    (path / "status.json").write_text(json.dumps(sign))
    return path


def shown(path, width=200) -> str:
    stream = io.StringIO()
    watch.watch(str(path), Console(file=stream, width=width))
    return stream.getvalue()


def test_a_running_run_says_where_it_is(tmp_path):
    text = shown(write_run(tmp_path / "run"))
    for words in ("mine", "running", "epoch 4/10  training", "3 of 10", "about 7:00 left",
                  "1,234 images/s", "2.000", "before epoch 3", "acceptance rate 25%",
                  "precision 50%", "4+8 clusters, 1 empty",
                  "trained long enough: not yet", "--mode=watch"):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    ("sign", "state"),
    [
        ({}, "running"),
        ({"pid": DEAD}, "dead"),
        ({"host": "elsewhere", "pid": DEAD, "age": 600}, "running"),
        ({"host": "elsewhere", "age": 1000}, "dead"),
        ({"state": "finished", "pid": DEAD}, "finished"),
        ({"state": "failed"}, "failed"),
        ({"state": "stopped"}, "stopped"),
    ],
)
def test_the_state_is_told_from_the_last_update(sign, state, tmp_path):
    run = read_run(str(write_run(tmp_path / "run", **sign)))
    assert told(run.status, time.time()) == state
    text = shown(tmp_path / "run")
    assert state in text
    assert ("goes on from the last checkpoint" in text) == (state in ("dead", "failed", "stopped"))


def test_a_run_before_its_first_epoch_and_a_narrow_terminal(tmp_path):
    text = shown(write_run(tmp_path / "run", epochs=0, refreshes=0), width=40)
    assert "0 of 10" in text and "none yet; 2 epochs without" in text
    assert max(map(len, text.splitlines())) <= 40


def test_ill_health_is_said_in_words(tmp_path):
    path = write_run(tmp_path / "run")
    said = {"training_warnings": ["epoch 3: It began."], "health_warnings": ["It collapsed."]}
    (path / "results.json").write_text(json.dumps(said))
    text = shown(path)
    assert "epoch 3: It began." in text and text.count("It collapsed") == 1
    (path / "results.json").write_text(json.dumps({**said, "knn_top1": 0.5}))
    closing = summary("mine", read_run(str(path)))
    assert "warning: epoch 3: It began." in closing


def test_the_closing_table_gives_the_same_verdict(tmp_path):
    path = write_run(tmp_path / "run", state="finished", epochs=10)
    (path / "results.json").write_text(json.dumps({"knn_top1": 0.5, "detection_recall": None}))
    run = read_run(str(path))
    verdict, closing = judge(run), summary("mine", run)
    assert len(verdict.judgements) == 4 and verdict.steps
    seen = " ".join(shown(path, width=400).split())
    for text in [*verdict.lines(), *(step.command for step in verdict.steps[:2])]:
        assert text in seen
        assert text in " ".join(closing.split())
    assert "recall of pairs: -" in seen and "recall of pairs -" in " ".join(
        closing.split()
    )  # not measured, so no 0


def test_a_terminal_is_kept_up_to_date_until_the_run_or_the_watcher_ends(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run")
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)

    def finish(seconds):
        sign = json.loads((path / "status.json").read_text())
        (path / "status.json").write_text(json.dumps({**sign, "state": "finished"}))

    monkeypatch.setattr(time, "sleep", finish)
    watch.watch(str(path), console)
    assert "running" in stream.getvalue() and "finished" in stream.getvalue()

    def leave(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", leave)
    finished = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**finished, "state": "running"}))
    watch.watch(str(path), console)


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(UserError, match="no run has begun"):
        watch.watch(str(tmp_path))


def test_the_sparkline_spans_least_to_greatest():
    assert watch._sparkline([0.0, 7.0, 3.5]) == "▁█▅"
    assert watch._sparkline([1.0, 1.0]) == "▁▁"
    assert len(watch._sparkline(list(range(100)))) == 24


def test_nothing_is_said_of_training_where_none_was(tmp_path):
    path = write_run(tmp_path / "run", epochs=0, refreshes=0, state="failed")
    with (path / "config.flags").open("a") as file:
        file.write("--saved_model=theirs\n--mode=embed\n")
    text = shown(path)
    assert "--saved_model=theirs" in text and "failed" in text
    for words in ("epochs", "refresh", "checkpoint"):
        assert words not in text, words
