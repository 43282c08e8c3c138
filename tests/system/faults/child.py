"""Work in forked processes, so that TensorFlow is imported once for all, and their deaths.

What is forked has imported TensorFlow and run none of it: no threads, no devices.
"""

import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: exit status; the signal's number, negated, if one killed it.
        seconds: how long it ran.
        output: what it printed, both streams.
    """

    status: int
    seconds: float
    output: str


def call(
    work: Callable[[], Any], log: pathlib.Path, kill: Callable[[float], bool] | None = None
) -> End:
    """Does some work in a process of its own; what it returns is the exit status, if an integer.

    Args:
        work: what to do.
        log: takes what it prints.
        kill: asked a thousand times a second, with the seconds so far, whether to kill it
            (SIGKILL); None: never.
    """
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
        elif kill is not None and kill(time.monotonic() - start):
            os.kill(child, signal.SIGKILL)
            kill = None
        time.sleep(0.001)
    return End(status, time.monotonic() - start, log.read_text(errors="replace"))


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
