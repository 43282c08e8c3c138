"""The progress line, in a terminal and in a log file."""

import io
import time

import pytest

from ifnd_tf.run import progress as progress_module
from ifnd_tf.run.progress import Nested, Progress, duration, epoch_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3599.6, "1:00:00"), (7325, "2:02:05")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_rewrites_its_line_and_clears_it_for_one_that_stays():
    stream = Terminal()
    progress = Progress(stream, interval=0)
    progress.status("a long status")
    progress.status("short")
    progress.line("done")
    shown = stream.getvalue()
    assert shown.startswith("\ra long status\rshort        \r")
    assert shown.endswith("\rdone\n")


def test_a_status_is_cleared_with_what_the_terminal_added_for_ctrl_c():
    stream = Terminal()
    progress = Progress(stream, interval=0)
    progress.clear()
    progress.status("reading")
    progress.clear()
    progress.clear()
    assert stream.getvalue() == "\rreading\r         \r"  # two more blanks, once


def test_a_phase_clears_its_status_when_it_ends():
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(stream).phase("reading"):
        raise KeyboardInterrupt
    assert stream.getvalue() == "\rreading ...\r             \r"


def test_what_has_no_total_is_counted():
    stream = io.StringIO()
    with Progress(stream, interval=0).phase("finding images") as count:
        count(1000, 0)
        count(2000, 0)
    assert stream.getvalue().splitlines()[1:] == ["finding images 1,000", "finding images 2,000"]


def test_a_log_gets_whole_lines_and_not_too_many():
    stream = io.StringIO()
    progress = Progress(stream, interval=3600)
    progress.status("first")
    progress.status("dropped")
    progress.status("forced", force=True)
    assert stream.getvalue() == "first\nforced\n"


def test_other_workers_are_silent():
    stream = io.StringIO()
    progress = Progress(stream, enabled=False)
    progress.line("a")
    progress.status("b", force=True)
    assert stream.getvalue() == ""


def test_phases_are_named_and_timed():
    stream = io.StringIO()
    progress = Progress(stream, interval=0)
    with pytest.raises(RuntimeError), progress.phase("embedding", "epoch 3/9  "):
        raise RuntimeError
    assert stream.getvalue() == "epoch 3/9  embedding ...\n"
    seconds = progress.take_seconds()
    assert set(seconds) == {"embedding"} and seconds["embedding"] >= 0
    assert progress.take_seconds() == {}


def test_a_phase_says_how_much_is_done_and_the_time_left(monkeypatch):
    stream, seen, clock = io.StringIO(), [], iter(range(100, 200, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    progress = Progress(stream, interval=0)
    progress.mirror = seen.append  # status.json
    with progress.phase("clustering", "epoch 3/9  ") as count:  # 10 s between two looks
        count(1, 7)
        count(3, 7)
        count(7, 7)
    shown = stream.getvalue().splitlines()
    assert shown == [
        "epoch 3/9  clustering ...",
        # The first includes what happens once.
        "epoch 3/9  clustering 1/7",
        # Two in two looks since then, so four others in four.
        "epoch 3/9  clustering 3/7  ETA 0:40",
        "epoch 3/9  clustering 7/7",
    ]
    assert seen == shown


@pytest.mark.parametrize("nested", [False, True])
def test_a_phase_that_counts_nothing_shows_its_time(nested, monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.05)
    stream = io.StringIO()
    progress = Progress(stream, interval=0)
    if nested:
        progress = Nested(progress, "ifnd")
    with progress.phase("linear probe"):
        time.sleep(0.3)
    shown = stream.getvalue().splitlines()
    assert len(shown) >= 3 and shown[-1].endswith("linear probe ... 0:00")
    time.sleep(0.1)
    assert stream.getvalue().splitlines() == shown


def test_a_silence_keeps_the_count_and_its_time_left(monkeypatch):
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.05)
    stream = io.StringIO()
    with Progress(stream, interval=0).phase("clustering") as count:
        for done in (0, 1):
            count(done, 10)
            time.sleep(0.15)
    shown = stream.getvalue().splitlines()
    assert shown[0] == "clustering ..." and shown[1:3] == ["clustering 0/10"] * 2
    # One took 0.15 s, so nine others take as long each, and the next one at least.
    assert shown[-1] == "clustering 1/10  ETA 0:01"


def test_what_was_not_measured_is_a_dash():
    values = {"loss": None, "images_per_second": None, "detection_acceptance_rate": 0.1,
              "detection_accepted_share": 0.0, "detection_precision": None}  # fmt: skip
    assert epoch_line(1, 9, values) == (
        "epoch 1/9  loss -  - images/s  accepted 0%  pair precision -"
    )


def test_a_mirror_gets_the_status_now_and_then():
    seen = []
    progress = Progress(io.StringIO(), enabled=False)
    progress.mirror = seen.append
    progress.status("a")
    progress.status("b")
    progress.status("c", force=True)
    assert seen == ["a", "c"]


def test_a_run_among_several_says_its_name_and_leaves_out_details():
    stream = io.StringIO()
    progress = Nested(Progress(stream, interval=0), "ifnd, seed 3")
    progress.detail("epoch 7")
    progress.status("step 1")
    progress.line("rolled back")
    assert stream.getvalue() == "ifnd, seed 3  step 1\nifnd, seed 3  rolled back\n"
