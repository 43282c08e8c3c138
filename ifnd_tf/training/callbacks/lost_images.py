"""Images that became unreadable while training: listed, and an error above some share."""

from collections.abc import Mapping, Sequence

import keras

from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress


class LostImages(keras.callbacks.Callback):
    """At an epoch's end, adds newly unreadable images to unreadable.tsv.

    Args:
        lost: rows (index, name, reason) of the images lost so far, by index; updated by others.
        known: the rows listed before training.
        num_examples: training images.
        max_share: largest tolerated share of unreadable images, in [0, 1].
        run: the run directory.
        progress: the terminal.
    """

    def __init__(
        self,
        lost: Mapping[int, tuple],
        known: Sequence[tuple],
        *,
        num_examples: int,
        max_share: float,
        run: RunDirectory,
        progress: Progress,
    ):
        super().__init__()
        self._lost, self._known = lost, known
        self._num_examples, self._max_share = num_examples, max_share
        self._run, self._progress = run, progress
        self._listed = 0

    def on_epoch_end(self, epoch, logs=None):
        lost = [self._lost[index] for index in sorted(self._lost)]
        if len(lost) == self._listed:
            return
        self._listed = len(lost)
        self._run.write_unreadable([*self._known, *lost])
        self._progress.line(
            f"warning: {len(lost)} images became unreadable while training, such as "
            f"{lost[0][1]}; others take their places. See {self._run.file('unreadable.tsv')}"
        )
        bad = len(self._known) + len(lost)
        if bad > self._max_share * self._num_examples:
            raise UserError(
                f"Expected at most --max_corrupt_share={self._max_share} unreadable images. "
                f"Received: {bad} of {self._num_examples}, such as {lost[0][1]}; mend "
                "them or raise the share, and give the same command again."
            )
