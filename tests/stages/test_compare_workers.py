"""Runs side by side: equal to runs one after the other, and none ends another."""

import contextlib
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.records import RunReader
from ifnd_tf.stages import compare, compare_workers
from ifnd_tf.stages.compare_workers import Task, side_by_side
from ifnd_tf.stages.run import Run
from tests import tiny
from tests.conftest import make_strategy
from tests.stages import fake_job


class Lines(Progress):
    """A terminal that keeps its lines."""

    def __init__(self):
        super().__init__(enabled=False)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(compare_workers, "_work", fake_job.work)


def tasks(*what: str) -> list[Task]:
    return [Task(f"run {place}", each) for place, each in enumerate(what)]


def test_a_job_takes_many_runs_and_a_killed_one_is_replaced(fake):
    progress = Lines()
    found = list(side_by_side(tasks("a", "die", "b", "fail", "raise", "c"), 2, progress))
    by_place = {each.place: (each.text, each.failed) for each in found}
    assert by_place == {
        0: ("a", False),
        1: ("its process was ended by SIGKILL; too little memory? Try fewer --jobs", True),
        2: ("b", False),
        3: ("fail", True),
        4: ("its process ended with exit code 3", True),
        5: ("c", False),
    }
    # Six runs, two processes and another for each that died.
    assert len({line.split(" in ")[1] for line in progress.lines}) <= 4


def test_closing_tells_every_job_to_save_and_waits_for_it(fake, tmp_path):
    files = [tmp_path / name for name in "ab"]
    progress = Lines()
    generator = side_by_side(tasks(*(f"wait:{file}" for file in files), "later"), 2, progress)

    def stop_when_both_wait(text: str) -> None:
        progress.lines.append(text)
        if text == "waiting" and progress.lines.count("waiting") == 2:
            raise KeyboardInterrupt

    progress.line = stop_when_both_wait
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(generator):
        list(generator)
    assert [file.read_text() for file in files] == ["saved, Ctrl-C ignored: True"] * 2
    assert progress.lines[-1].startswith("stopping: every job saves")
    assert not any("later" in line for line in progress.lines)


def test_jobs_are_one_where_a_run_takes_all_devices():
    progress = Lines()
    run = types.SimpleNamespace(
        config=tiny.config(jobs=3), strategy=make_strategy("mirrored-2"), progress=progress
    )
    assert compare_workers.number(run) == 1
    assert progress.lines == [
        "jobs: 1 instead of 3, since every run uses all devices of the strategy"
    ]
    run.strategy = make_strategy("default")
    assert compare_workers.number(run) == 3
    run.config = tiny.config(jobs=0)
    assert compare_workers.number(run) >= 1


def everything(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All variables of the last checkpoint: weights, queue, labels, optimiser."""
    store = CheckpointStore(str(path / "checkpoints"))
    saved = tf.train.load_checkpoint(store.prefix(store.latest()))
    return {name: saved.get_tensor(name) for name in saved.get_variable_to_shape_map()}


@pytest.mark.slow
def test_jobs_give_the_weights_and_results_of_one_after_the_other(tmp_path):
    variants = "none,soft:treatment=eliminate,sce:lam=0.5"
    for jobs, name in ((2, "pair"), (1, "alone")):
        config = tiny.config(
            mode="compare", variants=variants, seeds=1, protocols="knn",
            workdir=str(tmp_path / name), jobs=jobs,
        )  # fmt: skip
        compare.compare(Run(config, make_strategy("default"), Progress(enabled=False)))
    for name in ("none-0", "soft-0"):
        pair, alone = tmp_path / "pair" / name, tmp_path / "alone" / name
        found, wanted = everything(pair), everything(alone)
        assert found.keys() == wanted.keys() and len(found) > 20
        for variable in wanted:
            np.testing.assert_array_equal(found[variable], wanted[variable], variable)
        results = RunReader(str(pair)).results(), RunReader(str(alone)).results()
        assert results[0]["knn_top1"] == results[1]["knn_top1"]
        assert results[0]["train_loss"] == results[1]["train_loss"]
