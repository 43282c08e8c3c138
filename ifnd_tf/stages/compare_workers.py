"""Runs of a comparison side by side: each job is a process that trains many runs in turn.

TensorFlow starts once in each job, and each opens and decodes the data. Each job has as many
threads as a run alone, which --threads chooses: another number would change the order of sums, and
results would not be equal to the bit.
"""

import collections
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.run import machine
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import compare_job
from ifnd_tf.stages.compare_runs import Outcome
from ifnd_tf.stages.run import Run

# Memory for a job: TensorFlow and the images of a small data set.
_JOB_BYTES = 2 * 2**30


class Task(NamedTuple):
    """A run for a job.

    Attributes:
        title: its name on the terminal.
        config: its settings, as they were given.
    """

    title: str
    config: Config


class _Job(NamedTuple):
    """A process, and the place among the tasks of the one that it works on."""

    process: multiprocessing.process.BaseProcess
    place: int


def number(run: Run) -> int:
    """The jobs that `--jobs` asks for, as far as the devices allow."""
    jobs = run.config.jobs
    if not jobs:
        jobs = max(1, min(os.cpu_count() or 1, machine.free_memory() // _JOB_BYTES))
    several = run.strategy.num_replicas_in_sync > 1
    if jobs > 1 and (several or isinstance(run.strategy, tf.distribute.TPUStrategy)):
        run.progress.line(
            f"jobs: 1 instead of {jobs}, since every run uses all devices of the strategy"
        )
        return 1
    return jobs


def side_by_side(tasks: Sequence[Task], jobs: int, progress: Progress) -> Generator[Outcome]:
    """Trains and evaluates runs in `jobs` processes, and yields the outcome of each as it ends.

    A process that is killed or fails ends its run alone; another takes its place. When the
    iterator is closed, as by Ctrl-C, the processes save checkpoints and end.

    Args:
        tasks: the runs, started in this order.
        jobs: how many at once.
        progress: the terminal that all share.
    """
    waiting = collections.deque(range(len(tasks)))
    working: dict[Connection, _Job] = {}
    ended: list[multiprocessing.process.BaseProcess] = []
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                connection, process = _start()
                working[connection] = _Job(process, waiting.popleft())
                _send(connection, tasks[working[connection].place])
            ready = wait(list(working))
            for connection in [each for each in working if each in ready]:
                job = working[connection]
                try:
                    kind, *said = connection.recv()
                except (EOFError, OSError):
                    job.process.join()
                    del working[connection]
                    yield Outcome(job.place, _why(job.process.exitcode), True)
                    continue
                if kind != "outcome":
                    getattr(progress, kind)(*said)
                    continue
                if waiting:
                    working[connection] = job._replace(place=waiting.popleft())
                    _send(connection, tasks[working[connection].place])
                else:
                    del working[connection]
                    connection.close()
                    ended.append(job.process)
                yield Outcome(job.place, *said)
    finally:
        if working:
            progress.line("stopping: every job saves after its step; a second Ctrl-C stops at once")
        for connection, job in working.items():
            job.process.terminate()  # saves first
            connection.close()
        for process in [*ended, *(job.process for job in working.values())]:
            process.join()


def _start() -> tuple[Connection, multiprocessing.process.BaseProcess]:
    """A process that waits for tasks, and the connection to it.

    It ignores Ctrl-C and a closed terminal. These reach this process as well, which then sends it
    a single signal: a second one would end it before it has saved.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # Daemons are ended at once when this process ends before they are joined.
    process = context.Process(target=compare_job.work, args=(theirs,), daemon=True)
    signals = (signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(each, signal.SIG_IGN) for each in signals]
    try:
        process.start()  # a process inherits ignored signals
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
    theirs.close()
    return ours, process


def _send(connection: Connection, task: Task) -> None:
    with contextlib.suppress(OSError):  # the job has died; reading from it reports that
        connection.send(tuple(task))


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        hint = "; too little memory? Try fewer --jobs" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"
    return f"its process ended with exit code {code}"
