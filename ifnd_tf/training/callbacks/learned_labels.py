"""True labels of a stream, known once training has read them, for detection's statistics."""

import keras

from ifnd_tf.data.source import Source
from ifnd_tf.run.directory import RunDirectory


class LearnedLabels(keras.callbacks.Callback):
    """Hands new labels to the model around each epoch, and writes them once all are known.

    A continued run then has them from its start, so its statistics are those of a run that was
    never stopped.

    Args:
        source: the training images.
        directory: the run directory.
    """

    def __init__(self, source: Source, directory: RunDirectory):
        super().__init__()
        self._source, self._directory = source, directory
        self._pending = not source.labels_known

    def on_epoch_begin(self, epoch, logs=None):
        self._hand_over()

    def on_epoch_end(self, epoch, logs=None):
        self._hand_over()

    def _hand_over(self) -> None:
        if not self._pending:
            return
        if self.model.true_labels is not None:
            self.model.true_labels.assign(self._source.labels)
        if self._source.labels_known:
            self._pending = False
            self._directory.write_true_labels(self._source.labels)
