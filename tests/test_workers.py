"""Two processes on this machine, each a worker, run the real command."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.checkpoints import CheckpointStore
from tests import tiny

pytestmark = [pytest.mark.distribution, pytest.mark.slow]

ROOT = pathlib.Path(__file__).parent.parent
# 5 steps an epoch, one detection before the second. A small learning rate, because an untrained
# network amplifies rounding: at 0.06, 1e-7 grows to 1e-4 in ten steps.
SETTINGS = {
    **tiny.SETTINGS,
    "batch_size": 256,
    "queue_size": 512,
    "protocols": "knn",
    "learning_rate": 0.005,
}


def start(workdir, *, workers=0, index=0, ports=(), **overrides):
    """Starts main.py, as one of `workers` or alone."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CONFIG", None)
    if workers:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
    settings = {**SETTINGS, "workdir": workdir, **overrides}
    return subprocess.Popen(
        [sys.executable, "main.py", *(f"--{name}={value}" for name, value in settings.items())],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def finish(processes):
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def checkpoint(workdir):
    """Weights, queue, labels and centroids, by their names in the checkpoint."""
    store = CheckpointStore(str(workdir / "checkpoints"))
    reader = tf.train.load_checkpoint(store.prefix(store.latest()))
    names = reader.get_variable_to_shape_map()
    # What is trained is saved as a part of the optimiser.
    parts = ("model/", "detector/", "optimizer/_trainable_variables/")
    kept = [n for n in names if n.startswith(parts)]
    return {name: reader.get_tensor(name) for name in kept}


@pytest.mark.parametrize("framework", ["moco", "simclr"])
def test_two_workers_give_what_one_gives(framework, tmp_path):
    ports = free_ports(2)
    pair = [
        start(tmp_path / "pair", workers=2, index=i, ports=ports, framework=framework)
        for i in range(2)
    ]
    codes, outputs = finish(pair)
    assert codes == [0, 0], outputs
    codes, alone = finish([start(tmp_path / "alone", framework=framework)])
    assert codes == [0], alone
    expected, found = checkpoint(tmp_path / "alone"), checkpoint(tmp_path / "pair")
    assert expected.keys() == found.keys() and len(expected) > 20
    for name, value in expected.items():
        if value.dtype.kind in "iu":
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        elif value.dtype.kind == "f":
            scale = max(np.abs(value).max(), 0.1)
            np.testing.assert_allclose(
                found[name], value, rtol=1e-3, atol=3e-4 * scale, err_msg=name
            )
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "pair")
    ]
    for name in ("knn_top1", "untrained_knn_top1", "raw_pixel_knn_top1"):
        assert results[1][name] == pytest.approx(results[0][name], abs=0.006), name
    # Only the chief speaks and writes.
    assert "epoch 2/2" in outputs[0] and "epoch 2/2" not in outputs[1]
    assert (tmp_path / "pair" / "saved_model" / "saved_model.pb").exists()


def test_workers_with_different_flags_are_told_which():
    ports = free_ports(2)
    pair = [
        start("unused", workers=2, index=i, ports=ports, learning_rate=0.1 * (i + 1))
        for i in range(2)
    ]
    codes, outputs = finish(pair)
    assert codes == [1, 1], outputs
    for output in outputs:
        assert "different values of --learning_rate;" in output
