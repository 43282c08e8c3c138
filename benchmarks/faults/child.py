"""Runs of the real command in forked processes, so that TensorFlow is imported once for all.

What is forked has imported TensorFlow and run none of it: no threads, no devices.
"""

import mmap
import os
import pathlib
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import main
from ifnd_tf import stages  # imported here, so that no child imports it  # noqa: F401
from ifnd_tf.callbacks.checkpointing import Checkpointing


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: exit status; the signal's number, negated, if one killed it.
        seconds: how long it ran.
        step: the last training step that it finished, -1 if none.
        output: what it printed, both streams.
    """

    status: int
    seconds: float
    step: int
    output: str


def run(arguments: Sequence[str], log: pathlib.Path, kill_after: float | None = None) -> End:
    """Runs main.py in a process of its own, and kills it (SIGKILL) after so many seconds."""
    shared = mmap.mmap(-1, 8)  # survives the child
    shared[:] = struct.pack("q", -1)
    end = call(lambda: _command(arguments, shared), log, kill_after)
    return end._replace(step=struct.unpack("q", shared[:])[0])


def call(work: Callable[[], Any], log: pathlib.Path, kill_after: float | None = None) -> End:
    """Does some work in a process of its own; what it returns is the exit status, if an integer."""
    sys.stdout.flush()
    start = time.monotonic()
    child = os.fork()
    if not child:
        _become(work, log)
    status = None
    while status is None:
        finished, code = os.waitpid(child, os.WNOHANG)
        if finished:
            status = os.waitstatus_to_exitcode(code)
        elif kill_after is not None and time.monotonic() - start > kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        time.sleep(0.002)
    return End(status, time.monotonic() - start, -1, log.read_text(errors="replace"))


def _become(work: Callable[[], Any], log: pathlib.Path) -> None:
    """The child's life."""
    status: Any = 99
    try:
        target = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(target, 1)
        os.dup2(target, 2)
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def _command(arguments: Sequence[str], shared: mmap.mmap) -> int:
    """main.py, which shows every phase as on a terminal, and whose steps are noted."""
    sys.stdout.isatty = lambda: True  # type: ignore[method-assign]
    saved = Checkpointing.on_train_batch_end

    def noted(self: Checkpointing, batch: int, logs: object = None) -> None:
        shared[:] = struct.pack("q", self._epoch * self._steps_per_epoch + batch + 1)
        saved(self, batch, logs)

    Checkpointing.on_train_batch_end = noted  # type: ignore[method-assign]
    return main.main(list(arguments))
