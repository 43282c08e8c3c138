"""Refreshes the report while training, within a small share of the time."""

import time
from collections.abc import Callable

import keras

from ifnd_tf.run.progress import Progress

# Seconds of training before the first refresh, whatever the share.
FIRST = 60.0


class LiveReport(keras.callbacks.Callback):
    """Refreshes the report after a minute, then whenever its share of the time allows.

    The first follows the first epoch that ends after `FIRST` seconds: a shorter run's report comes
    soon enough at its end. A failure is a line on the terminal; training continues.

    Args:
        refresh: writes the report; given the epochs trained.
        share: largest share of the training time to spend, in (0, 1).
        progress: the terminal.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        refresh: Callable[[int], None],
        *,
        share: float,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self._refresh, self._share, self._clock = refresh, share, clock
        self._progress = progress
        self._spent = self._last = 0.0

    def on_train_begin(self, logs=None):
        self._start = self._clock()

    def on_epoch_end(self, epoch, logs=None):
        before = self._clock()
        trained = before - self._start
        # The next refresh is expected to cost as much as the last; the first has no estimate.
        if trained < FIRST or (self._last and self._spent + self._last > self._share * trained):
            return
        try:
            self._refresh(epoch + 1)
        except Exception as error:  # a library may raise anything
            self._progress.line(f"report.html not refreshed: {type(error).__name__}: {error}")
        self._last = self._clock() - before
        self._spent += self._last
