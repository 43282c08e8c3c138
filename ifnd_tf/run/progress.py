"""The status line of the terminal, and the line after each epoch."""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# Called with the number that is done and the total, 0 where that is not known.
Count = Callable[[int, int], None]


def uncounted(done: int, total: int) -> None:
    """The `Count` that shows nothing."""


# Between two updates of status.json: far less than the silence after which --mode=watch takes a run
# for dead, and cheap on gs://.
_MIRROR_SECONDS = 5.0
# Silence after which a phase shows its time; checked this often, so after twice as long at most.
SILENT_SECONDS = 2.5


def epoch_line(epoch: int, epochs: int, values: Mapping[str, float | None]) -> str:
    """The main values of an epoch's logs in a line; "-" for None, which means not measured."""
    forms = {
        "loss": "loss {:.3f}",
        "images_per_second": "{:,.0f} images/s",
        "online_knn_top1": "online kNN {:.1%}",
    }
    if "detection_acceptance_rate" in values:
        forms |= {
            "detection_accepted_share": "accepted {:.0%}",
            "masked_share": "masked {:.1%} of negatives",
            "detection_precision": "pair precision {:.2f}",
            "detection_recall": "pair recall {:.2f}",
        }
    shown = [
        re.sub("{.*?}", "-", form) if values[name] is None else form.format(values[name])
        for name, form in forms.items()
        if name in values
    ]
    return "  ".join([f"epoch {epoch}/{epochs}", *shown])


class Progress:
    """A status line, rewritten on a terminal and repeated now and then in a log file.

    Args:
        stream: where to write; None: standard output, looked up at each write.
        enabled: False for all processes but the chief.
        interval: least seconds between two repetitions; None: 0.5 on a terminal, 15 in a log.

    Attributes:
        mirror: called with the status every few seconds as well, if it is set.
        seconds: seconds per phase since `take_seconds`.
    """

    mirror: Callable[[str], None] | None = None

    def __init__(
        self, stream: TextIO | None = None, enabled: bool = True, interval: float | None = None
    ):
        self._given_stream, self._enabled, self._interval = stream, enabled, interval
        self._last, self._mirrored, self._width = float("-inf"), float("-inf"), 0
        self._told, self._lock = float("-inf"), threading.RLock()
        self.seconds: dict[str, float] = {}

    @property
    def _stream(self) -> TextIO:
        return self._given_stream or sys.stdout

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        if not self._enabled:
            return
        with self._lock:
            self.clear()
            self._stream.write(text + "\n")
            self._stream.flush()

    def clear(self) -> None:
        """Clears the status line, for another that writes to the terminal."""
        with self._lock:
            if self._width:
                blank = " " * (self._width + len("^C"))  # which the terminal may have added
                self._stream.write("\r" + blank + "\r")
                self._stream.flush()
                self._width = 0

    def detail(self, text: str) -> None:
        """Prints a line that is dropped where several runs share the terminal."""
        self.line(text)

    def status(self, text: str, *, force: bool = False) -> None:
        """Shows a status, unless the last one is too recent."""
        with self._lock:
            self._show(text, force)

    def _show(self, text: str, force: bool) -> None:
        terminal = self._stream.isatty()
        interval = self._interval if self._interval is not None else (0.5 if terminal else 15.0)
        now = self._told = time.monotonic()
        if self.mirror is not None and (force or now - self._mirrored >= _MIRROR_SECONDS):
            self._mirrored = now
            self.mirror(text)
        if not self._enabled or (now - self._last < interval and not force):
            return
        self._last = now
        if terminal:
            before, self._width = self._width, len(text)  # first, since Ctrl-C may follow at once
            self._stream.write("\r" + text.ljust(before))
            self._stream.flush()
        else:
            self.line(text)

    def counter(self, name: str) -> Count:
        """A function to call with the number done and the total: shows both, and the time left."""
        return _Counter(self, name, time.monotonic())

    @contextlib.contextmanager
    def phase(self, name: str, where: str = "") -> Iterator[Count]:
        """Shows a phase other than training while it runs, and adds up its seconds.

        While nothing new is counted, the last count is shown with the time left, or the time so
        far. The status is cleared at the end.

        Yields:
            The phase's `counter`.
        """
        start, ended = time.monotonic(), threading.Event()
        counter = _Counter(self, where + name, start)
        clock = threading.Thread(target=self._clock, args=(counter, ended), daemon=True)
        clock.start()
        try:
            self.status(f"{where}{name} ...", force=self._stream.isatty())
            yield counter
        finally:
            ended.set()
            clock.join()
            self.clear()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def _clock(self, counter: "_Counter", ended: threading.Event) -> None:
        """Shows the time of a phase that is silent, until it has ended."""
        while not ended.wait(SILENT_SECONDS):
            now = time.monotonic()
            if now - self._told >= SILENT_SECONDS:
                self.status(counter.in_silence(now))

    def take_seconds(self) -> dict[str, float]:
        """Seconds per phase since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken


class _Counter:
    """A `Count` that is shown with the time left.

    The time left is estimated from the first call on, since what precedes it, such as compiling,
    happens once.
    """

    def __init__(self, progress: Progress, name: str, start: float):
        self._progress, self._name, self._start = progress, name, start
        self._first: tuple[float, int] | None = None
        self._last, self._done, self._total = start, 0, 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        self._last, self._done, self._total = now, done, total
        self._progress.status(self.text(now))

    def text(self, now: float) -> str:
        """The count and the time left."""
        assert self._first is not None
        text = f"{self._name} {self._done:,}" + (f"/{self._total:,}" if self._total else "")
        start, before = self._first
        counted = self._done - before
        if 0 < counted < self._total - before:
            # The pace so far, or a slower one if the next of the count is overdue.
            pace = max((self._last - start) / counted, (now - start) / (counted + 1))
            text += f"  ETA {duration(pace * (self._total - before) - (now - start))}"
        return text

    def in_silence(self, now: float) -> str:
        """The same while something is left, else the time so far."""
        if self._done < self._total:
            return self.text(now)
        return f"{self._name} ... {duration(now - self._start)}"


class Nested(Progress):
    """The terminal of one run among several: puts its name before each line, drops details.

    Args:
        outer: the terminal of all.
        name: put before every line.
    """

    def __init__(self, outer: Progress, name: str):
        super().__init__(outer._given_stream, outer._enabled, outer._interval)
        self._outer, self._name = outer, name

    def line(self, text: str) -> None:
        self._outer.line(f"{self._name}  {text}")

    def detail(self, text: str) -> None:
        pass

    def status(self, text: str, *, force: bool = False) -> None:
        self._told = time.monotonic()
        self._outer.status(f"{self._name}  {text}", force=force)
