"""A tf.data service on this machine: the same batches in the same order, whatever becomes of it."""

import itertools
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from ifnd_tf.config import Config
from ifnd_tf.data import datasets, recipes, serve, service_reader, train_batches
from ifnd_tf.data.service_reader import DataService
from ifnd_tf.errors import UserError
from tests.conftest import free_ports
from tests.data.conftest import write_class_folders

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = recipes.recipe("moco_v2")
STEPS = 5  # of an epoch of 30 images


class Service:
    """A dispatcher and two workers, each a process of the real command."""

    def __init__(self):
        (self.port,) = free_ports(1)
        self.address = f"grpc://localhost:{self.port}"
        self.dispatcher = self._start("dispatcher", str(self.port))
        line = ["worker", f"localhost:{self.port}", "localhost"]
        self.workers = [self._start(*line) for _ in range(2)]
        for process in (self.dispatcher, *self.workers):
            assert process.stdout.readline()  # it says that it serves

    def batches(self, source, seconds=120.0, report=lambda text: None, **options):
        """The training batches that it makes, as an endless iterator."""
        return numbered(source, data_service=DataService(self.address, seconds, report), **options)

    def stop(self):
        for process in (self.dispatcher, *self.workers):
            process.kill()
            process.communicate()

    def _start(self, *line):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        line = [sys.executable, "-m", "ifnd_tf.data.serve", *line]
        return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def numbered(source, **options):
    options = {"batch_size": 6, "seed": 7, "augmentation": RECIPE, "image_size": 8} | options
    return train_batches.training_batches(source, **options).as_numpy_iterator()


def taken(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(scope="module")
def service():
    found = Service()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = write_class_folders(tmp_path_factory.mktemp("served"))
    return datasets.open_splits(f"folder:{folder}", holdout_share=0.01).train


@pytest.mark.slow  # three processes that import TensorFlow
def test_the_batches_are_those_of_this_machine_from_any_step_on(service, source):
    expected = taken(numbered(source), 3 * STEPS)
    assert_equal(taken(service.batches(source), 3 * STEPS), expected)
    assert_equal(taken(service.batches(source, first_step=7), 4), expected[7:11])
    for epoch in range(3):
        steps = expected[epoch * STEPS : (epoch + 1) * STEPS]
        indices = np.concatenate([batch["index"] for batch in steps])
        np.testing.assert_array_equal(np.sort(indices), np.arange(source.num_examples))


@pytest.mark.slow
def test_images_that_it_cannot_read_are_read_or_skipped_here(service, tmp_path):
    source = datasets.open_splits(
        f"folder:{write_class_folders(tmp_path)}", holdout_share=0.01
    ).train
    with open(source.path(3), "wb"):
        pass
    said = []
    expected = taken(numbered(source), STEPS)
    assert_equal(taken(service.batches(source, report=said.append), STEPS), expected)
    assert said == [
        f"--data_service={service.address}: it cannot read some images; their batches are made here"
    ]
    assert list(source.lost) == [3]


@pytest.mark.slow
@pytest.mark.faults
def test_lost_workers_and_a_lost_dispatcher_change_nothing(source):
    service, said = Service(), []
    expected = taken(numbered(source), 110)  # more than may come early
    try:
        batches = service.batches(source, 10.0, said.append)
        found = taken(batches, 10)
        service.workers[0].kill()
        found += taken(batches, 25)
        assert not said
        service.workers[1].kill()
        service.dispatcher.kill()
        found += taken(batches, 75)
    finally:
        service.stop()
    assert_equal(found, expected)
    assert said == [
        f"--data_service={service.address}: no batch; batches are made here until it answers"
    ]


@pytest.mark.faults
def test_a_service_that_does_not_answer_is_named(source):
    (port,) = free_ports(1)
    silent = DataService(f"grpc://localhost:{port}", 0.5)
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        numbered(source, data_service=silent)
    assert time.monotonic() - start < 10
    assert str(raised.value) == (
        "--data_service: expected a tf.data service that answers within "
        f"--worker_timeout_seconds=0.5. Received: grpc://localhost:{port}, no answer; "
        "start it, or leave --data_service out."
    )


@pytest.mark.faults
def test_another_program_at_the_address_is_named(source, monkeypatch):
    monkeypatch.setattr(service_reader, "MAKING_SECONDS", 2.0)
    with socket.create_server(("localhost", 0)) as other:
        address = f"grpc://localhost:{other.getsockname()[1]}"
        with pytest.raises(UserError, match="another program may listen there"):
            numbered(source, data_service=DataService(address, 0.5))


@pytest.mark.parametrize("port", ["taken", 0, 99999])
def test_a_port_that_cannot_be_taken_is_refused(port, capsys):
    with socket.create_server(("", 0)) as other:
        number = other.getsockname()[1] if port == "taken" else port
        assert serve.main(["dispatcher", str(number)]) == 1
        dispatcher = f"localhost:{other.getsockname()[1]}"
        assert serve.main(["worker", dispatcher, f"localhost:{number}"]) == 1
    told = capsys.readouterr().err
    assert told.count(f"error: expected a free port from 1 to 65535. Received: {number}.") == 2


def test_a_worker_without_a_dispatcher_says_so(capsys):
    (port,) = free_ports(1)
    assert serve.main(["worker", f"localhost:{port}"], seconds=0.3) == 1
    assert f"no answer from localhost:{port}; start it first" in capsys.readouterr().err
    assert serve.main(["worker", "localhost"]) == 1
    assert "Received: worker localhost." in capsys.readouterr().err
    assert serve.main(["worker", f"localhost:{port}", "me:abc"]) == 1
    assert f"Received: worker localhost:{port} me:abc." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "folder:x", "data_service": "host:1"}, "expected grpc://HOST:PORT"),
        ({"data_service": "grpc://host:1"}, "expected --dataset=folder:PATH or list:FILE"),
        ({"dataset": "tfds:x", "data_service": "grpc://host:1"}, "Received: --dataset=tfds:x"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(settings, message):
    with pytest.raises(UserError, match=message):
        Config(**settings)
