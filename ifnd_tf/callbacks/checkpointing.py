"""Checkpoints from which a run goes on as if it had not stopped."""

import os

import keras
import tensorflow as tf

from ifnd_tf.errors import UserError


class Checkpointing(keras.callbacks.Callback):
    """Saves weights, optimiser, queue, labels, centroids and epoch; keeps the last two.

    The data pipeline has no state: order and views follow from (seed, epoch, index).

    Args:
        folder: where checkpoints go, on disk or gs://.
        every: epochs between two.
        epochs: the run's length; the last epoch is always saved.
        writer: whether this process is the chief. The other workers take part in saving,
            as collectives demand, and their copies are removed.
        **objects: what to save besides the epoch.
    """

    def __init__(self, folder: str, *, every: int, epochs: int, writer: bool = True, **objects):
        super().__init__()
        self._every, self._epochs, self._writer = every, epochs, writer
        self._folder = folder
        self._epoch = tf.Variable(0, trainable=False, dtype=tf.int64, name="epoch")
        self._checkpoint = tf.train.Checkpoint(epoch=self._epoch, **objects)
        own = folder if writer else f"{folder}/other_workers/{os.getpid()}"
        self._manager = tf.train.CheckpointManager(self._checkpoint, own, max_to_keep=2)

    def restore(self) -> int:
        """Restores the latest checkpoint and returns the epochs done; 0 if there is none.

        Raises:
            UserError: if a checkpoint is there but does not fit.
        """
        latest = tf.train.latest_checkpoint(self._folder)
        if latest is None:
            return 0
        try:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(
                f"Expected a checkpoint that fits these flags in {self._folder}. Received: "
                f"{latest} ({reason}); remove the run directory, or choose another --workdir."
            ) from error
        return int(self._epoch.numpy())

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every and epoch + 1 != self._epochs and not self._last(epoch):
            return
        self._epoch.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)
        if not self._writer:
            tf.io.gfile.rmtree(self._manager.directory)

    def _last(self, epoch: int) -> bool:
        """Whether `fit` ends here, at its own number of epochs or because it was asked to."""
        return self.model.stop_training or epoch + 1 == (self.params or {}).get("epochs")
