"""SIGTERM and Ctrl-C as a request: save, then stop."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

from ifnd_tf.errors import Stopped


class Interruption:
    """Turns the first SIGTERM or SIGINT into a request; the second stops at once.

    Used as a context; before and after it, signals do what they always did. In any other
    thread than the main one Python gives no signals, and none are taken.

    Args:
        report: told once that the request was heard.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self, report: Callable[[str], None] = lambda text: None):
        self._report = report
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
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
            f"{self.received.name}: saving after this step, then stopping; once more: at once"
        )
