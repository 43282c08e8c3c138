"""Two processes in one run directory: the second is refused, unless the first is dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run.lock import alone

pytestmark = pytest.mark.faults


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    """A folder on disk, and one of a file system without locks."""
    if request.param == "disk":
        return str(tmp_path)
    path = f"ram://{tmp_path.name}"
    tf.io.gfile.makedirs(path)
    return path


def test_the_second_is_refused_and_told_who_holds_it(folder):
    with alone(folder):
        time.sleep(0.1)  # for the thread that renews
        with (
            pytest.raises(UserError, match=f"held by process {os.getpid()} on") as error,
            alone(folder),
        ):
            pytest.fail("both came in")
        assert socket.gethostname() in str(error.value)
    with alone(folder):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    program = (
        "import fcntl, os, sys\n"
        f"d = os.open({str(tmp_path / 'lock')!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(d, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="no other process"), alone(str(tmp_path)):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with alone(str(tmp_path)):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("holder", "free"),
    [
        ({"host": "elsewhere", "pid": 1, "age": 10}, False),
        ({"host": "elsewhere", "pid": 1, "age": 400}, True),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "age": 10}, True),
        ({"host": socket.gethostname(), "pid": os.getpid(), "age": 10}, False),
        (None, True),
    ],
)
def test_without_file_locks_a_holder_counts_while_it_says_that_it_lives(holder, free, tmp_path):
    folder = f"ram://{tmp_path.name}"
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(f"{folder}/lock", "w") as file:
        if holder is None:
            file.write("{")
        else:
            file.write(json.dumps({**holder, "time": time.time() - holder.pop("age")}))
    if free:
        with alone(folder):
            pass
        assert not tf.io.gfile.exists(f"{folder}/lock")
    else:
        with pytest.raises(UserError, match="held by process"), alone(folder):
            pass


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match="can be written"), alone(str(tmp_path / "none")):
        pass
