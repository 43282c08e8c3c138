"""Strategies by name, the shuffle over replicas, and waiting for workers."""

import json
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf import distribution
from ifnd_tf.errors import UserError
from tests.conftest import make_strategy


@pytest.mark.distribution
@pytest.mark.parametrize("replicas", [2, 4])
def test_exchange_mixes_the_replicas_and_comes_back(replicas):
    strategy = make_strategy(f"mirrored-{replicas}")
    rows = 8

    @tf.function
    def step():
        def one():
            mine = distribution.replica_id() * rows + tf.range(rows)
            moved = distribution.exchange(mine[:, None])
            return moved[:, 0], distribution.exchange(moved, inverse=True)[:, 0]

        return strategy.run(one)

    moved, back = (np.array(strategy.experimental_local_results(v)) for v in step())
    np.testing.assert_array_equal(back, np.arange(replicas * rows).reshape(replicas, rows))
    assert sorted(moved.ravel()) == list(range(replicas * rows))
    for replica in moved:
        # An equal number of rows of each replica.
        np.testing.assert_array_equal(np.bincount(replica // rows), [rows // replicas] * replicas)


@pytest.mark.parametrize(
    ("rows", "replicas", "pieces"), [(32, 8, 8), (32, 512, 8), (12, 8, 4), (6, 2, 2)]
)
def test_exchange_pieces(rows, replicas, pieces):
    assert distribution.exchange_pieces(rows, replicas) == pieces


def test_a_batch_that_cannot_be_shuffled_is_refused():
    with pytest.raises(UserError, match="common divisor"):
        distribution.exchange_pieces(9, 4)


def test_outside_replicas_nothing_is_communicated():
    x = tf.constant([1.0, 2.0])
    assert distribution.num_replicas() == 1
    for function in (
        distribution.all_reduce_sum, distribution.all_reduce_mean, distribution.all_gather
    ):  # fmt: skip
        np.testing.assert_array_equal(function(x), x)


@pytest.mark.distribution
def test_all_gather_sums_gradients_over_replicas():
    strategy = make_strategy("mirrored-2")

    @tf.function
    def step():
        def one():
            x = tf.constant([2.0])
            with tf.GradientTape() as tape:
                tape.watch(x)
                # Each replica's loss is (replica + 1) * sum of all x.
                scale = tf.cast(distribution.replica_id() + 1, tf.float32)
                loss = scale * tf.reduce_sum(distribution.all_gather(x))
            return tape.gradient(loss, x)

        return strategy.run(one)

    for gradient in strategy.experimental_local_results(step()):
        np.testing.assert_allclose(gradient, [1.0 + 2.0])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def set_workers(monkeypatch, *ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_a_worker_that_never_comes_is_named_in_time(monkeypatch):
    missing = free_port()
    set_workers(monkeypatch, free_port(), missing)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"No answer from 127.0.0.1:{missing}"):
        distribution.wait_for_workers(0.5)
    assert time.monotonic() - start < 10


def test_a_worker_that_comes_late_is_waited_for(monkeypatch):
    late = free_port()
    set_workers(monkeypatch, free_port(), late)

    def listen():
        time.sleep(0.5)
        with socket.create_server(("127.0.0.1", late)) as server:
            server.settimeout(10)
            server.accept()[0].close()

    thread = threading.Thread(target=listen)
    thread.start()
    distribution.wait_for_workers(10)
    thread.join()


@pytest.mark.parametrize(
    "value", ["", "{", "{}", '{"cluster": {"worker": []}, "task": {"index": 0}}']
)
def test_an_unusable_tf_config_is_explained(value, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(UserError, match="TF_CONFIG"):
        distribution.wait_for_workers(1)


@pytest.mark.parametrize(
    ("tpu", "config", "expected"), [("", None, "none"), ("x", None, "tpu"), ("", "{}", "workers")]
)
def test_auto_chooses_by_what_is_given(tpu, config, expected, monkeypatch):
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    monkeypatch.setattr(distribution, "_tpu_strategy", lambda name: f"tpu {name}")
    if expected == "workers":
        with pytest.raises(UserError, match="TF_CONFIG"):
            distribution.make_strategy("auto")
        return
    strategy = distribution.make_strategy("auto", tpu=tpu)
    assert strategy == "tpu x" if expected == "tpu" else strategy is tf.distribute.get_strategy()
