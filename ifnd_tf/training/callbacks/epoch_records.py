"""The logs of every epoch as metrics.jsonl, TensorBoard events and a line on the terminal."""

import keras
import tensorflow as tf

from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress, epoch_line


class EpochRecords(keras.callbacks.Callback):
    """Writes the logs of the other callbacks; comes after them and before `Checkpointing`.

    The records are a state in checkpoints, so that metrics.jsonl has neither gaps nor repeats
    after a resumption, even if the file was damaged.

    Args:
        directory: the run directory.
        progress: the terminal.
        steps_per_epoch: steps of an epoch.
        epochs: the run's length.
    """

    def __init__(
        self, directory: RunDirectory, progress: Progress, *, steps_per_epoch: int, epochs: int
    ):
        super().__init__()
        self._directory, self._progress = directory, progress
        self._steps, self._epochs = steps_per_epoch, epochs
        self._records: list[dict[str, float | None]] = []
        self._events = None

    def get_state(self) -> list[dict[str, float | None]]:
        """The records of all epochs so far."""
        return list(self._records)

    def set_state(self, state: list[dict[str, float | None]]) -> None:
        """Restores the records, also in metrics.jsonl."""
        self._records = list(state)
        self._directory.write_metrics(self._records)

    def on_train_begin(self, logs=None):
        self._directory.write_metrics(self._records)
        if self._directory.writer:
            self._events = tf.summary.create_file_writer(self._directory.file("events"))

    def on_epoch_end(self, epoch, logs=None):
        values = {n: None if v is None else float(v) for n, v in (logs or {}).items()}
        step = (epoch + 1) * self._steps
        self._records.append({"epoch": epoch + 1, "step": step, **values})
        self._directory.write_metrics(self._records)
        if self._events is not None:
            with self._events.as_default():
                for name, value in values.items():
                    if value is not None:
                        tf.summary.scalar(name, value, step=step)
            self._events.flush()
        self._progress.detail(epoch_line(epoch + 1, self._epochs, values))
