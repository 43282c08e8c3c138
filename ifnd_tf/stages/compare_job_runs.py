"""A job of a comparison: trains runs in turn, and reports to the process that has the terminal."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

import tensorflow as tf

from ifnd_tf.data import datasets
from ifnd_tf.errors import Stopped
from ifnd_tf.run.progress import Nested, Progress
from ifnd_tf.run.quiet_start import quiet_start
from ifnd_tf.stages import build_strategy
from ifnd_tf.stages.compare_runs import Outcome, outcome
from ifnd_tf.stages.run import Run

# Seconds between two statuses of a job.
_STATUS_SECONDS = 0.5


class _RemoteTerminal(Progress):
    """Sends lines, statuses and outcomes to the process that has the terminal."""

    def __init__(self, connection: Connection):
        super().__init__()
        self._connection, self._sent = connection, float("-inf")

    def line(self, text: str) -> None:
        self._send("line", text)

    def status(self, text: str, *, force: bool = False) -> None:
        if force or time.monotonic() - self._sent >= _STATUS_SECONDS:
            self._sent = time.monotonic()
            self._send("status", text)

    def outcome(self, found: Outcome) -> None:
        """Sends the outcome of a run."""
        self._send("outcome", found.text, found.failed)

    def _send(self, *message: object) -> None:
        # Locked, since a phase's clock is a thread, too. Errors are ignored: if nobody listens any
        # more, the run still has to save.
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(message)


def serve(connection: Connection) -> None:
    """Trains and evaluates the runs that come by the connection, until that is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tf.get_logger().setLevel("ERROR")
    logging.getLogger("absl").setLevel(logging.ERROR)
    opened: dict[tuple, datasets.Splits] = {}
    terminal, strategy = _RemoteTerminal(connection), None
    while True:
        try:
            title, config = connection.recv()
        except (EOFError, OSError):
            return
        with quiet_start():
            strategy = strategy or build_strategy.strategy(config)
        run = Run(config, strategy, Nested(terminal, title), opened)
        try:
            found = outcome(0, run)
        except Stopped as stop:
            sys.exit(128 + stop.number)
        terminal.outcome(found)


def _end_with_parent() -> None:
    """Stops this process, after a checkpoint, when the one that started it has died."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
