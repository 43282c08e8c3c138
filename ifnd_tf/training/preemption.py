"""SIGTERM, SIGHUP and Ctrl-C as a request: save, then stop."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

from ifnd_tf.errors import Stopped


class Interruption:
    """Turns the first SIGTERM, SIGINT or SIGHUP (the terminal was closed) into a request.

    The second stops at once. A signal that the process ignored before, as under nohup, stays
    ignored.

    A context manager, which restores the former handlers at its end. Python delivers signals
    to the main thread only; in another thread this does nothing.

    Args:
        report: prints a line when the request arrives.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self, report: Callable[[str], None] = lambda text: None):
        self._report = report
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Stopped(number)
        self.received = signal.Signals(number)
        self._report(
            f"{self.received.name}: saving after this step, then stopping; a second signal stops "
            "at once"
        )
