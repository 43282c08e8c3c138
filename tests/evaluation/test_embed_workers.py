"""Two worker processes on loopback embed a shard each, and both end up with all rows."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

_WORKER = """
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
from ifnd_tf.evaluation.embed import embed

def batches(context):
    # Worker w holds the examples w, w + 2, ...; the last of worker 1 is padding.
    index = np.array([[0, 2, 4, 6], [1, 3, 5, -1]][context.input_pipeline_id], np.int32)
    images = np.maximum(index, 0)[:, None, None, None] + np.zeros([1, 2, 2, 3])
    data = {"index": index, "images": images.astype(np.uint8), "label": index + 10}
    return tf.data.Dataset.from_tensor_slices(data).batch(2, drop_remainder=True)

def mean(images):
    return {"features": tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])}

data = strategy.distribute_datasets_from_function(batches)
for _ in range(2):
    found = embed(mean, data, 7, strategy)
    np.testing.assert_array_equal(found["features"][:, 1], np.arange(7))
    np.testing.assert_array_equal(found["label"], np.arange(10, 17))
    assert found["seen"].all()
print("all rows")
"""


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
@pytest.mark.distribution
def test_each_worker_gets_all_rows():
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    root = pathlib.Path(__file__).parents[2]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "PYTHONPATH": str(root)}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", _WORKER],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        for process in processes:
            output, _ = process.communicate(timeout=180)
            assert process.returncode == 0, output[-3000:]
            assert "all rows" in output
    finally:
        for process in processes:
            process.kill()
