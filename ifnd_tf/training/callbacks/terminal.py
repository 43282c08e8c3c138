"""The progress line while training."""

import time

import keras

from ifnd_tf.run.progress import Progress, duration


class Terminal(keras.callbacks.Callback):
    """Shows epoch, step, loss, images/s and time left; adds speed and seconds to the logs.

    Args:
        progress: the terminal.
        steps_per_epoch: steps of an epoch.
        batch_size: images of a step over all replicas, B.
        epochs: the run's length.
    """

    def __init__(self, progress: Progress, *, steps_per_epoch: int, batch_size: int, epochs: int):
        super().__init__()
        self._progress = progress
        self._steps, self._batch, self._epochs = steps_per_epoch, batch_size, epochs

    def on_train_begin(self, logs=None):
        self._start = time.monotonic()
        self._epoch_start = self._start
        self._first = (self.params or {}).get("first_step", 0)
        self._epoch, step = divmod(self._first, self._steps)
        self._traced = False
        self._mark: float | None = None
        self._progress.take_seconds()  # those before training belong to no epoch
        self._progress.status(f"{self._where(step)}compiling the step ...", force=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._mark = epoch, None
        if self._traced:  # after a refresh, until the first batch of the epoch has come
            self._progress.status(f"{self._where(0)}reading images ...")

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self._mark is None:
            # The first batch includes tracing, so speed is measured after it.
            self._mark, self._mark_step = now, batch + 1
            if not self._traced:
                self._start, self._traced = now, True
        self._now, self._done = now, batch + 1
        total = self._epoch * self._steps + batch + 1 - self._first
        loss = _measured(logs["loss"])
        text = f"{self._where(batch + 1)}training  loss {'-' if loss is None else f'{loss:.3f}'}"
        if total > 1:
            left = self._epochs * self._steps - self._first - total
            speed = self._speed()
            text += "" if speed is None else f"  {speed:,.0f} images/s"
            # From the mean time per step so far, which includes detection and evaluation.
            text += f"  ETA {duration((now - self._start) / (total - 1) * left)}"
        self._progress.status(text)

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        logs["loss"] = _measured(logs["loss"])
        logs["images_per_second"] = self._speed()
        now = time.monotonic()
        logs["epoch_seconds"], self._epoch_start = now - self._epoch_start, now
        for name, seconds in self._progress.take_seconds().items():
            logs[f"seconds_{name}"] = seconds

    def _where(self, step: int) -> str:
        return f"epoch {self._epoch + 1}/{self._epochs}  step {step}/{self._steps}  "

    def _speed(self) -> float | None:
        """Images/s in this epoch, None before its second call."""
        if self._mark is None or self._done == self._mark_step:
            return None
        return (self._done - self._mark_step) * self._batch / (self._now - self._mark)


def _measured(loss: float) -> float | None:
    """The loss; None if it is exactly 0, as while the queue has no negatives."""
    return None if loss == 0.0 else loss
