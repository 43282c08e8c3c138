"""One process at a time in a run directory."""

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

# Where there are no file locks, the holder says that it lives every so many seconds, and is
# taken for dead when it has not for so many.
_RENEWED, _STALE = 60.0, 300.0


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Holds a run directory; who comes second is refused and told who holds it.

    On disk this is an flock: the kernel drops it with the process, however that dies, so there
    is no stale lock to remove. gs:// has nothing of the kind. There a file tells host, process
    and time, is renewed every minute, and counts for five; two processes that start within the
    same moment may both find it free, for which no remedy is known.

    Args:
        folder: the run directory, which must exist.

    Raises:
        UserError: if another process holds it.
    """
    path = f"{folder.rstrip('/')}/lock"
    with _remote(path) if "://" in folder else _local(path):
        yield


@contextlib.contextmanager
def _local(path: str) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(
            f"--workdir: expected a directory that can be written. Received: {path!r} ({error}); "
            "choose another."
        ) from error
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
    if holder and time.time() - holder.get("time", 0.0) < _STALE:
        here = holder.get("host") == socket.gethostname()
        if not here or _lives(holder.get("pid", 0)):
            raise _held(path, holder)
    done = threading.Event()

    def renew() -> None:
        while True:
            with tf.io.gfile.GFile(path, "wb") as file:
                file.write(_self())
            if done.wait(_RENEWED):
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tf.io.gfile.remove(path)


def _self() -> bytes:
    return json.dumps(
        {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
    ).encode()


def _holder(path: str) -> dict:
    """Who says to hold it; empty if nobody does, or unreadably."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            found = json.loads(file.read())
    except (tf.errors.OpError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _held(path: str, holder: dict) -> UserError:
    return UserError(
        f"--workdir: expected a run directory that no other process uses. Received: {path} is held "
        f"by process {holder.get('pid', '?')} on {holder.get('host', '?')}; wait for it, stop it, "
        "or choose another --workdir."
    )
