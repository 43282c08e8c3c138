"""What status.json says once the stages of a command have ended."""

import pytest

from ifnd_tf.errors import Stopped
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import status
from tests import tiny
from tests.conftest import make_strategy


@pytest.fixture
def directory(tmp_path) -> RunDirectory:
    """Of a run of which 3 of 8 epochs are done."""
    directory = RunDirectory(str(tmp_path), flags={"epochs": "8"})
    directory.claim()
    directory.write_metrics([{"epoch": 3, "loss": 1.0}])
    return directory


def ended(directory, mode, error=None) -> tuple[str, str]:
    """State and text after the stages of a mode."""
    progress = Progress(enabled=False)
    try:
        with status.written(directory, progress, tiny.config(mode=mode)):
            progress.mirror("at work")
            assert directory.status()["state"] == "running"
            if error:
                raise error
    except (ValueError, Stopped):
        pass
    assert progress.mirror is None
    found = directory.status()
    return found["state"], found["text"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("stopped", "stopped by SIGTERM"), ("stopped", "stopped by SIGTERM")),
        (("failed", "out of memory"), ("failed", "out of memory")),
        (("running", "epoch 3/8"), ("stopped", "stopped without a message")),
        (("finished", "finished train"), ("finished", "finished evaluate")),
    ],
)
def test_an_interrupted_training_is_not_finished_by_another_stage(directory, before, after):
    directory.write_status(*before)
    assert ended(directory, "evaluate") == after
    assert ended(directory, "train,evaluate") == ("finished", "finished train, evaluate")


def test_how_stages_ended_is_written(directory):
    directory.write_metrics([{"epoch": 8, "loss": 1.0}])
    assert ended(directory, "embed", ValueError("no images\nat all")) == ("failed", "no images")
    assert ended(directory, "train", Stopped(15)) == ("stopped", "stopped by SIGTERM")
    assert ended(directory, "embed") == ("finished", "finished embed")


def test_a_report_leaves_the_state_alone(directory):
    directory.write_status("stopped", "stopped by SIGTERM")
    before = directory.status()
    config = tiny.config(mode="report", workdir=directory.path, epochs=8)
    with tiny.run(config, make_strategy("default")).in_progress():
        pass
    assert directory.status() == before
