"""kNN accuracy while training, on a sample of the training images."""

from collections.abc import Callable

import keras

from ifnd_tf.run.progress import Progress


class OnlineKNN(keras.callbacks.Callback):
    """Adds `online_knn_top1` and `online_knn_top5` to the logs of every few epochs.

    The final `knn_top1` uses every training image instead.

    Args:
        evaluate: yields (name, value) pairs of the current encoder.
        every: epochs between two evaluations.
        epochs: the run's length; the last epoch is always evaluated.
        progress: the terminal.
    """

    def __init__(self, evaluate: Callable, *, every: int, epochs: int, progress: Progress):
        super().__init__()
        self._evaluate, self._every, self._epochs = evaluate, every, epochs
        self._progress = progress

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every and epoch + 1 != self._epochs:
            return
        with self._progress.phase("evaluating", f"epoch {epoch + 1}/{self._epochs}  "):
            values = {f"online_{name}": value for name, value in self._evaluate()}
        if logs is not None:
            logs.update(values)
