"""Strategies by name, and waiting for workers."""

import json
import socket
import threading
import time

import pytest
import tensorflow as tf

from ifnd_tf.distribute import strategies
from ifnd_tf.errors import UserError
from tests.conftest import free_ports


def set_workers(monkeypatch, *ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_a_worker_that_never_comes_is_named_in_time(monkeypatch):
    present, missing = free_ports(2)
    set_workers(monkeypatch, present, missing)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"No answer from 127.0.0.1:{missing}"):
        strategies.wait_for_workers(0.5)
    assert time.monotonic() - start < 10


def test_a_worker_that_comes_late_is_waited_for(monkeypatch):
    present, late = free_ports(2)
    set_workers(monkeypatch, present, late)

    def listen():
        time.sleep(0.5)
        with socket.create_server(("127.0.0.1", late)) as server:
            server.settimeout(10)
            server.accept()[0].close()

    thread = threading.Thread(target=listen)
    thread.start()
    strategies.wait_for_workers(10)
    thread.join()


@pytest.mark.parametrize(
    "value",
    [
        *("", "{", "{}", '{"cluster": {"worker": []}, "task": {"index": 0}}'),
        '{"cluster": {"worker": ["host"]}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["host:1", "other"]}, "task": {"index": 0}}',
    ],
)
def test_an_unusable_tf_config_is_explained(value, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(UserError, match="TF_CONFIG"):
        strategies.wait_for_workers(1)


@pytest.mark.parametrize(
    ("tpu", "config", "expected"),
    [("", None, ""), ("x", None, r"a running TPU.*'x' \(no such TPU\)"), ("", "{}", "TF_CONFIG")],
)
def test_auto_chooses_by_what_is_given(tpu, config, expected, monkeypatch):
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    if not expected:
        assert strategies.make_strategy("auto", tpu=tpu) is tf.distribute.get_strategy()
        return

    def no_tpu(tpu):
        raise ValueError("no such TPU")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", no_tpu)
    with pytest.raises(UserError, match=expected):
        strategies.make_strategy("auto", tpu=tpu)
