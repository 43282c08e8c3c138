"""What a person at the terminal sees: one line that says where the run is."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# Often enough to tell a slow step from a dead run, seldom enough for gs://.
_MIRROR_SECONDS = 5.0


def epoch_line(epoch: int, epochs: int, values: Mapping[str, float]) -> str:
    """What an epoch's logs say, in a line."""
    parts = [f"epoch {epoch}/{epochs}", f"loss {values['loss']:.3f}"]
    parts.append(f"{values['images_per_second']:,.0f} images/s")
    if "online_knn_top1" in values:
        parts.append(f"online kNN {values['online_knn_top1']:.1%}")
    if values.get("detection_acceptance_rate"):
        parts.append(f"accepted {values['detection_accepted_share']:.0%}")
        parts.append(f"masked {values['masked_share']:.1%} of negatives")
    if values.get("detection_acceptance_rate") and "detection_precision" in values:
        parts.append(
            f"pairs: precision {values['detection_precision']:.2f} "
            f"recall {values['detection_recall']:.2f}"
        )
    return "  ".join(parts)


class Progress:
    """A status line, rewritten on a terminal and repeated now and then in a log file.

    Args:
        stream: where to write; None: standard output, looked up at each write.
        enabled: False for all processes but the chief.
        interval: least seconds between two repetitions; None: 0.5 on a terminal, 15 in a log.

    Attributes:
        mirror: gets the status as well, every few seconds; None: nobody does.
    """

    mirror: Callable[[str], None] | None = None

    def __init__(
        self, stream: TextIO | None = None, enabled: bool = True, interval: float | None = None
    ):
        self._given_stream, self._enabled, self._interval = stream, enabled, interval
        self._last, self._mirrored, self._width = float("-inf"), float("-inf"), 0
        self.seconds: dict[str, float] = {}

    @property
    def _stream(self) -> TextIO:
        return self._given_stream or sys.stdout

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        if not self._enabled:
            return
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._stream.write(text + "\n")
        self._stream.flush()

    def detail(self, text: str) -> None:
        """Prints a line that only matters where this run is the only one."""
        self.line(text)

    def status(self, text: str, *, force: bool = False) -> None:
        """Shows where the run is; dropped if the last one is too recent."""
        terminal = self._stream.isatty()
        interval = self._interval if self._interval is not None else (0.5 if terminal else 15.0)
        now = time.monotonic()
        if self.mirror is not None and (force or now - self._mirrored >= _MIRROR_SECONDS):
            self._mirrored = now
            self.mirror(text)
        if not self._enabled or (now - self._last < interval and not force):
            return
        self._last = now
        if terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)
        else:
            self.line(text)

    @contextlib.contextmanager
    def phase(self, name: str, where: str = "") -> Iterator[None]:
        """Shows a phase other than training while it runs and adds up its seconds."""
        self.status(f"{where}{name} ...", force=self._stream.isatty())
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    def take_seconds(self) -> dict[str, float]:
        """Seconds per phase since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken


class Nested(Progress):
    """The terminal of one run among several: its lines carry its name, and details are dropped.

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
        self._outer.status(f"{self._name}  {text}", force=force)
