"""The lock of a run directory: one process at a time."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run import machine
from ifnd_tf.run.files import not_writable

# Seconds. Where there are no file locks, the holder renews its file after the first, and counts as
# dead once the file is older than the second.
_RENEWED, _STALE = 60.0, 300.0


def alone(folder: str) -> contextlib.AbstractContextManager[None]:
    """Holds a run directory; a second process is refused and told which one holds it.

    On disk this is an flock, which the kernel drops with the process, so no stale lock is left.
    On gs://, which has no locks, a file holds host, process and time; it is renewed every minute
    and valid for five. Two processes that start at the same moment may both find it free.

    Args:
        folder: the run directory, which must exist.

    Raises:
        UserError: if another process holds it.
    """
    path = f"{folder.rstrip('/')}/lock"
    return _remote(path) if "://" in folder else _local(path)


@contextlib.contextmanager
def _local(path: str) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(path, _holder(path)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _self(), 0)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


@contextlib.contextmanager
def _remote(path: str) -> Iterator[None]:
    holder = _holder(path)
    elsewhere = holder.get("host") != socket.gethostname()
    fresh = time.time() - holder.get("time", 0.0) < _STALE
    if fresh and (elsewhere or machine.is_alive(holder.get("pid", 0))):
        raise _held(path, holder)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(_RENEWED):
            with contextlib.suppress(tf.errors.OpError):  # the next time may do
                _hold(path)

    _hold(path)
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tf.io.gfile.remove(path)


def _hold(path: str) -> None:
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(_self())


def _self() -> bytes:
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
    return json.dumps(holder).encode()


def _holder(path: str) -> dict:
    """Host, process and time in a lock file; empty without a file, or with a damaged one."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            found = json.loads(file.read())
    except (tf.errors.OpError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _held(path: str, holder: dict) -> UserError:
    return UserError(
        f"--workdir: expected a run directory that no other process uses. Received: {path} is held "
        f"by process {holder.get('pid', '?')} on {holder.get('host', '?')}; wait for it, stop it, "
        "or choose another --workdir."
    )
