"""Reads the batches of a tf.data service in the order of their numbers, whatever it does."""

import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from ifnd_tf.distribute.strategies import listens
from ifnd_tf.errors import UserError, cause

# Between attempts to reach a service that was lost.
_RETRY_SECONDS = 10.0
# Allowed on top of the timeout, to trace what the service is to make.
MAKING_SECONDS = 30.0

Batch = dict[str, tf.Tensor]


class DataService(NamedTuple):
    """A tf.data service.

    Attributes:
        address: of its dispatcher, grpc://HOST:PORT; empty: no service.
        timeout_seconds: the longest wait for a batch.
        report: called with a line when the service falls silent, and when it answers again.
    """

    address: str
    timeout_seconds: float
    report: Callable[[str], None] = lambda text: None

    @property
    def answers(self) -> bool:
        """Whether a process listens at the address."""
        return listens(self.address.partition("://")[2])


class _Job:
    """Reads a service's data set in a thread, since a call that waits cannot be given up.

    Attributes:
        made: set once the data set is made, or has failed.
    """

    def __init__(self, make: Callable[[], tf.data.Dataset]):
        self._arrivals: queue.Queue = queue.Queue(maxsize=2)
        self.made, closed = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=_read,
            args=(make, self.made, self._arrivals, closed),
            daemon=True,
            name="data-service",
        )
        thread.start()
        # Also at the process's end: a thread that returns from C++ later would abort it.
        self.close = weakref.finalize(self, _close, closed, thread)

    def next(self, seconds: float) -> Any:
        """The next (number, batch), or the error that ended the reading; None if nothing came."""
        try:
            return self._arrivals.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return None


def _read(
    make: Callable[[], Any],
    made: threading.Event,
    arrivals: queue.Queue,
    closed: threading.Event,
) -> None:
    def hand_on(arrival: Any) -> None:
        while not closed.is_set():
            try:
                return arrivals.put(arrival, timeout=0.1)
            except queue.Full:
                continue

    try:
        batches = make()
        made.set()
        for arrival in batches:
            hand_on(arrival)
            if closed.is_set():
                return
    except Exception as error:  # of any kind: the batches are made here from then on
        made.set()
        hand_on(error)


def _close(closed: threading.Event, thread: threading.Thread) -> None:
    closed.set()
    if thread is not threading.current_thread():
        thread.join(timeout=2.0)


class ServiceReader:
    """The batches by number: the service's if they come in time, else made here.

    Args:
        service: where.
        served: number -> the service's data set of (number, batch) from there on, in any order.
        own: number -> the batches from there on, made on this machine.
        first: the first number that is asked for.
        most_early: batches that may wait for a missing earlier one before it is made here.

    Raises:
        UserError: if no batch comes in time.
    """

    def __init__(
        self,
        service: DataService,
        served: Callable[[int], tf.data.Dataset],
        own: Callable[[tf.Tensor], tf.data.Dataset],
        first: int,
        most_early: int,
    ):
        self._service, self._served = service, served
        self._most_early, self._next = most_early, first
        self._early: dict[int, Batch | None] = {}
        self._made_here: tuple[int, Any] = (-1, None)
        # Silent: no batch came in time. Behind: the job still reads on from where it fell silent,
        # so its batches come too late.
        self._silent, self._behind, self._retry = False, False, 0.0
        self._lacking = False  # whether unreadable images of the service were reported
        self._job: _Job | None = self._start(first)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)])  # traced once: it takes seconds
        def made(number: tf.Tensor) -> tf.Tensor:
            batches = own(number)
            self.element_spec = batches.element_spec
            return tf.data.experimental.to_variant(batches)

        self._own = made.get_concrete_function()

    def take(self, number: int) -> Batch:
        """The batch of a number; numbers are asked for in their order."""
        if number != self._next and self._job is not None:  # a second pass from the start
            self._close()
        self._next = number + 1
        self._early = {n: batch for n, batch in self._early.items() if n >= number}
        return self._from_service(number) or self._make(number)

    def _from_service(self, number: int) -> Batch | None:
        """The batch, once it has come; None if it is to be made here."""
        if self._job is None and not self._reopen(number):
            return None
        until = time.monotonic() + (0.0 if self._silent else self._service.timeout_seconds)
        heard = False
        while number not in self._early:
            arrival = self._job.next(until - time.monotonic()) if self._job else None
            if arrival is None:
                if not heard and not self._silent:
                    self._behind = True
                    self._lost("no batch")
                return None
            if isinstance(arrival, Exception):
                self._close()
                self._lost(cause(arrival))
                return None
            if self._behind:
                self._close()
                return None
            if self._silent:
                self._silent, until = False, time.monotonic() + self._service.timeout_seconds
                self._report("it answers again")
            heard = True
            self._keep(number, arrival)
            if len(self._early) > self._most_early:
                return None
        return self._early.pop(number)

    def _keep(self, number: int, arrival: tuple[tf.Tensor, Batch]) -> None:
        came, batch = int(arrival[0]), arrival[1]
        if came >= number:
            whole = bool(tf.reduce_all(batch["index"] >= 0))
            self._early[came] = batch if whole else None
            if not whole and not self._lacking:
                self._lacking = True
                self._report("it cannot read some images; their batches are made here")

    def _make(self, number: int) -> Batch:
        at, batches = self._made_here
        if at != number:
            start = tf.constant(number, tf.int64)
            batches = iter(tf.data.experimental.from_variant(self._own(start), self.element_spec))
        self._made_here = number + 1, batches
        return next(batches)

    def _start(self, first: int) -> _Job:
        """A job whose first batch has come."""
        seconds = self._service.timeout_seconds
        until = time.monotonic() + seconds
        while not self._service.answers:
            if time.monotonic() > until:
                raise _no_answer(self._service, "no answer; start it, or leave --data_service out")
            time.sleep(0.2)
        job = _Job(functools.partial(self._served, first))
        if not job.made.wait(seconds + MAKING_SECONDS):
            raise _no_answer(
                self._service, "no answer of a dispatcher; another program may listen there"
            )
        arrival = job.next(seconds)
        if arrival is None:
            raise _no_answer(
                self._service, "no batch; start its workers, which must find the images' paths"
            )
        if isinstance(arrival, tf.errors.OpError):
            raise _no_answer(self._service, cause(arrival)) from arrival
        if isinstance(arrival, Exception):
            raise arrival
        self._keep(first, arrival)
        return job

    def _reopen(self, number: int) -> bool:
        """Starts a new job from a number on; returns whether the service could be reached."""
        if time.monotonic() < self._retry:
            return False
        self._retry = time.monotonic() + _RETRY_SECONDS
        if not self._service.answers:
            return False
        self._job, self._behind = _Job(functools.partial(self._served, number)), False
        return True

    def _close(self) -> None:
        if self._job is not None:
            self._job.close()
        self._job = None

    def _lost(self, reason: str) -> None:
        self._retry = time.monotonic() + _RETRY_SECONDS
        if not self._silent:
            self._silent = True
            self._report(f"{reason}; batches are made here until it answers")

    def _report(self, text: str) -> None:
        self._service.report(f"--data_service={self._service.address}: {text}")


def _no_answer(service: DataService, received: str) -> UserError:
    return UserError(
        f"--data_service: expected a tf.data service that answers within --worker_timeout_seconds="
        f"{service.timeout_seconds:g}. Received: {service.address}, {received}."
    )
