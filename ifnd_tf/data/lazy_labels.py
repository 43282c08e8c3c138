"""Labels that are read with the images, for data too large for a pass over the labels alone."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError


class LazyLabels(Source):
    """Examples whose labels are -1 until they have been read once, in a pass over the images.

    With several workers, each knows the labels of the examples that it reads.

    Args:
        name: how the user named it.
        num_examples: N.
        class_names: the classes, by label.
        has_labels: whether examples have labels.
        split: the split that was asked for, in words.

    Raises:
        UserError: if there are no examples.
    """

    def __init__(
        self,
        name: str,
        num_examples: int,
        class_names: Sequence[str],
        *,
        has_labels: bool,
        split: str,
    ):
        if not num_examples:
            raise UserError(f"--dataset={name}: expected examples. Received: none in {split}.")
        super().__init__(name, num_examples, class_names, np.full(num_examples, -1, np.int32))
        self._has_labels, self._read = has_labels, np.full(num_examples, not has_labels)

    @property
    def labelled(self) -> bool:
        """Whether examples have labels, known already or not."""
        return self._has_labels

    @property
    def labels_known(self) -> bool:
        """Whether all labels were read."""
        return bool(self._read.all())

    def note_labels(self, index: np.ndarray, labels: np.ndarray) -> None:
        """Notes the labels of examples that were read; an index of -1 is padding."""
        real = index >= 0
        self.labels[index[real]] = labels[real]
        self._read[index[real]] = True

    def set_labels(self, labels: np.ndarray | None) -> None:
        """See `Source.set_labels`."""
        if labels is not None and labels.shape == self.labels.shape and not self.labels_known:
            self.note_labels(np.arange(self.num_examples), labels)

    def note_unlabelled(self, indices: Sequence[int]) -> None:
        """See `Source.note_unlabelled`."""
        self._read[list(indices)] = True

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`; labels read from a subset stay unknown to the whole."""
        super().limit(indices)
        self._read = self._read[indices]

    def noting_labels(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """See `Source.noting_labels`."""
        if self.labels_known:
            return batches

        def note(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
            self.note_labels(index, labels)
            return index

        def noted(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            index = tf.numpy_function(note, [batch["index"], batch["label"]], tf.int32)
            return batch | {"index": tf.ensure_shape(index, batch["index"].shape)}

        return batches.map(noted)
