"""When to save a checkpoint while training."""

import time
from collections.abc import Callable

# Saves at epochs' ends take at most this share of the time; an end that comes too soon is skipped.
_SHARE = 0.02


class SavePolicy:
    """Decides by steps, minutes and the share of time.

    A crash costs the training since the last checkpoint on disk, so a save within an epoch is due
    before its interval is over, by as much as the last one took to reach the disk.

    Args:
        minutes: of training that a crash may cost within an epoch, at most; 0: no limit.
        steps: of training that a crash may cost, at most; 0: no limit.
        clock: seconds that never go back.

    Attributes:
        cost: seconds that the last save took from training: copying, and processor time of writing.
    """

    def __init__(
        self,
        *,
        minutes: float = 0.0,
        steps: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._seconds, self._steps = 60 * minutes, steps
        self._clock = clock
        self.cost = 0.0
        self._saved_step, self._saved_at, self._on_disk = -1, clock(), -1
        # Steps and seconds until a save is on disk; a guess before the first.
        self._delay = 1, 0.0

    def begin(self) -> bool:
        """Starts the clock; returns whether a first save is due, as nothing was restored."""
        self._saved_at = self._clock()
        return self._saved_step < 0

    def restored(self, step: int) -> None:
        """Notes that training continues from a checkpoint of this step."""
        self._saved_step = self._on_disk = step

    def saved(self, step: int, seconds: float) -> None:
        """Notes a save of this step, for which training waited so long."""
        self._saved_step, self._saved_at, self.cost = step, self._clock(), seconds

    def on_disk(self) -> None:
        """Notes that the last save is on disk."""
        self._on_disk = self._saved_step

    def written_by(self, step: int) -> None:
        """Notes how long the last save took to reach the disk: until now, at this step."""
        self._delay = step - self._saved_step, self._clock() - self._saved_at

    def must_wait(self, step: int) -> bool:
        """Whether the next step must wait for the disk, since a crash would cost too much."""
        return bool(self._steps) and step - self._on_disk >= self._steps

    def due(self, step: int, *, lead: int = 0) -> bool:
        """Whether to save within an epoch; `lead` further steps may pass before this is asked."""
        steps, seconds = self._delay
        # Waiting for a slow disk is better than more than twice as many saves.
        early = min(steps + lead, self._steps // 2)
        if self._steps and step - self._saved_step >= max(1, self._steps - early):
            return True
        passed = self._clock() - self._saved_at
        return bool(self._seconds) and passed >= self._seconds - seconds

    def due_at_epoch_end(self, step: int) -> bool:
        """Whether to save at the end of an epoch other than the last."""
        return self.due(step) or self.cost <= _SHARE * (self._clock() - self._saved_at)
