"""Two processes on this machine, each a worker: the library's runs and the real command."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.stages.evaluate import evaluate
from ifnd_tf.stages.export import export_model
from tests import corners, tiny
from tests.conftest import free_ports, make_strategy
from tests.outcomes import WORKERS, alone, assert_same

pytestmark = [pytest.mark.distribution, pytest.mark.slow]

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = {**tiny.SETTINGS, "batch_size": 256, "queue_size": 512, "protocols": "knn"}


def start(*commands):
    """One process a command line, each a worker of one job."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(commands))]}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    processes = []
    for index, command in enumerate(commands):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, text=True,
                env=environment | {"TF_CONFIG": json.dumps(task)},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    return processes


def work(*commands):
    """Runs one command line in each worker; returns their exit codes and what they printed."""
    processes = start(*commands)
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def command(**overrides):
    """The command line of a tiny run."""
    settings = {**SETTINGS, **overrides}
    return ["main.py", *(f"--{name}={value}" for name, value in settings.items())]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The folder in which two workers left the outcome of every variant."""
    folder = tmp_path_factory.mktemp("outcomes")
    codes, outputs = work(*[["-m", "tests.outcomes", str(folder)]] * 2)
    assert codes == [0, 0], outputs
    return folder


@pytest.mark.parametrize("variant", WORKERS)
def test_two_workers_change_nothing(variant, outcomes, shared):
    with np.load(outcomes / f"{variant}.npz") as found:
        assert_same(dict(found), alone(variant, shared))


def test_workers_know_each_other(outcomes):
    for index in (0, 1):
        with np.load(outcomes / f"joined{index}.npz") as found:
            assert found["count"] == 2
            np.testing.assert_array_equal(found["joined"], [[0, 7], [1, 7]])
            np.testing.assert_array_equal(found["any"], [True, False])


@pytest.mark.faults
def test_where_memory_runs_out_on_one_worker_all_take_fewer_rows(outcomes):
    clusters = corners.sharded_kmeans(make_strategy("default"))
    clusters.table.refresh()
    expected = clusters.cluster(12, tf.constant(corners.embed(corners.images())[:12]))
    for index in (0, 1):
        with np.load(outcomes / f"scarce{index}.npz") as found:
            np.testing.assert_array_equal(found["assignments"], expected.assignments)
            np.testing.assert_allclose(found["confidence"], expected.confidence, rtol=1e-5)
            assert found["said"].tolist() == [
                "clustering: memory ran out at 24 rows at a time; continuing with 12, which is "
                "slower"
            ]


def test_only_the_chief_writes(outcomes):
    files = {
        worker: [path for path in (outcomes / worker).rglob("*") if path.is_file()]
        for worker in ("worker0", "worker1")
    }
    assert len(files["worker0"]) > 20
    assert not files["worker1"]


def test_workers_with_different_flags_are_told_which():
    codes, outputs = work(*[command(workdir="unused", learning_rate=rate) for rate in (0.1, 0.2)])
    assert codes == [1, 1], outputs
    for output in outputs:
        assert "different values of --learning_rate;" in output


@pytest.mark.faults
def test_when_a_worker_is_lost_the_others_stop_and_all_resume_evaluate_and_export(tmp_path):
    path = tmp_path / "run"
    # Without detection, which the outcomes above have.
    settings = {"epochs": 200, "detector": "none", "checkpoint_steps": 5}
    line = command(workdir=path, mode="train", **settings)
    kept, lost = start(line, line)
    try:
        records = path / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (records.exists() and records.read_text().count("\n") >= 2):
            assert time.monotonic() < deadline and kept.poll() is None, "it never trained"
            time.sleep(0.2)
        lost.kill()
        lost.communicate()
        said = kept.communicate(timeout=120)[0]  # it notices after 10 seconds without a sign
    finally:
        kept.kill()
        lost.kill()
    assert kept.returncode == 1
    assert "expected all workers to answer" in said and "Traceback" not in said
    done = records.read_text().count("\n")
    line = command(workdir=path, mode="train,evaluate,export", **settings)
    codes, outputs = work(*[[*line, f"--stop_after_epoch={done + 1}"]] * 2)
    assert codes == [0, 0], outputs
    for words in (f"epoch {done + 1}/200", "kNN accuracy"):  # only the chief speaks
        assert words in outputs[0] and words not in outputs[1]
    assert f"from epoch {done + 1}" in outputs[0] or f"from epoch {done}," in outputs[0]
    epochs = [json.loads(text)["epoch"] for text in records.read_text().splitlines()]
    assert epochs == list(range(1, done + 2))
    found = json.loads((path / "results.json").read_text())
    exported = tf.saved_model.load(str(path / "saved_model")).signatures["serving_default"]
    images = tf.random.uniform([4, 8, 8, 3], 0, 256, tf.int32, seed=1)

    # One process, from the same checkpoint.
    run = tiny.run(Config(**{**SETTINGS, **settings}, workdir=str(path)), make_strategy("default"))
    evaluate(run)
    export_model(run)
    expected = json.loads((path / "results.json").read_text())
    for name in ("knn_top1", "untrained_knn_top1", "raw_pixel_knn_top1"):
        assert found[name] == pytest.approx(expected[name], abs=0.003), name  # one image of 359
    own = tf.saved_model.load(str(path / "saved_model")).signatures["serving_default"]
    images = tf.cast(images, tf.uint8)
    for name, value in own(images=images).items():
        np.testing.assert_array_equal(exported(images=images)[name], value)
