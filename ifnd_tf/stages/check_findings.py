"""What a check finds: lines for the terminal, and what must or might be changed."""

from collections.abc import Callable

from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Progress


class Findings:
    """Says what it finds, line by line, and gathers what must or might be changed."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self.changes: list[str] = []
        self.advice: list[str] = []

    def found(self, name: str, text: str) -> None:
        self._progress.line(f"  {name:<12}{text}")

    def attempt(self, function: Callable, *args) -> None:
        """Calls what raises `UserError` for settings that do not fit, and keeps the message."""
        try:
            function(*args)
        except UserError as error:
            self.changes.append(str(error))

    def conclude(self) -> None:
        """The closing lines: ready, or what to change.

        Raises:
            UserError: if something must be changed.
        """
        for title, texts in (("to change", self.changes), ("to consider", self.advice)):
            if texts:
                self._progress.line(f"{title}:")
            for text in texts:
                self._progress.line(f"  - {text}")
        if self.changes:
            raise UserError(
                f"--mode=check: expected settings that fit. Received: {len(self.changes)} to "
                "change, listed above with their flags."
            )
        self._progress.line("ready; the same command without --mode=check trains")
