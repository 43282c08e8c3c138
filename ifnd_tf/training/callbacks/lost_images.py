"""Images that became unreadable while training: listed, and an error above some share."""

from collections.abc import Sequence

import keras

from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.words import counted


class LostImages(keras.callbacks.Callback):
    """At an epoch's end, adds newly unreadable images to unreadable.tsv.

    Args:
        source: the training images, which note those that are lost.
        known: rows (index, name, reason) that were listed before training.
        max_share: largest tolerated share of unreadable images, in [0, 1].
        directory: the run directory.
        progress: the terminal.
    """

    def __init__(
        self,
        source: Source,
        known: Sequence[tuple],
        *,
        max_share: float,
        directory: RunDirectory,
        progress: Progress,
    ):
        super().__init__()
        self._source, self._known, self._max_share = source, known, max_share
        self._directory, self._progress = directory, progress
        self._listed = 0

    def on_epoch_end(self, epoch, logs=None):
        self._source.count_lost_anew()
        lost = [self._source.lost[index] for index in sorted(self._source.lost)]
        if len(lost) == self._listed:
            return
        self._listed = len(lost)
        self._directory.write_unreadable([*self._known, *lost])
        self._progress.line(
            f"warning: {counted(len(lost), 'image')} became unreadable while training, such as "
            f"{lost[0][1]}; others take their places. See {self._directory.file('unreadable.tsv')}"
        )
        bad = len(self._known) + len(lost)
        if bad > self._max_share * self._source.num_examples:
            raise UserError(
                f"Expected at most --max_corrupt_share={self._max_share} unreadable images. "
                f"Received: {bad} of {self._source.num_examples}, such as {lost[0][1]}; bring "
                "them back, mend them or raise the share, and give the same command again."
            )
