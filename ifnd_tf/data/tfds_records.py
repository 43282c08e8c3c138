"""A split of a prepared TensorFlow data set in ArrayRecord files: examples by index."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.data.lazy_labels import LazyLabels
from ifnd_tf.data.tfds_source import Features, file_instructions
from ifnd_tf.errors import UserError


class TfdsRecords(LazyLabels):
    """A split of a builder that was prepared as array_record; shuffled whole, as a folder is.

    Args:
        name: how the user named it.
        builder: a prepared `tfds.core.DatasetBuilder`.
        split: a split or a slice of one.
    """

    def __init__(self, name: str, builder: Any, split: str):
        try:
            from array_record.python.array_record_data_source import ArrayRecordDataSource
        except ImportError as error:  # it has no builds for some systems
            raise UserError(
                f"--dataset={name}: expected the package array-record. Received: {error}; pip "
                "install array-record, or prepare the data as tfrecord."
            ) from error
        self._files = file_instructions(name, builder, split)
        self._features = Features(name, builder)
        super().__init__(
            name, sum(each.take for each in self._files), self._features.class_names,
            has_labels=bool(self._features.label), split=repr(split),
        )  # fmt: skip
        self._records = ArrayRecordDataSource(self._files)
        self._selected = np.arange(self.num_examples)

    def describe(self, index: int) -> str:
        """The example's tfds id."""
        place = int(self._selected[index])
        for file in self._files:
            if place < file.take:
                break
            place -= file.take
        return f"{str(file.filename).rpartition('/')[2]}__{place + file.skip}"

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """The records that are read of each file: first and end."""
        return {str(each.filename): (each.skip, each.skip + each.take) for each in self._files}

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`."""
        super().limit(indices)
        self._selected = self._selected[indices]

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The encoded image; "" where the file cannot be read."""
        return self._features.parse(self._record(index))[0]

    def labelled_fetch(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """See `Source.labelled_fetch`; the labels come with the records."""
        return lambda index: self._features.parse(self._record(index))

    def read_labels(self) -> None:
        """Reads the labels in a pass of their own, unless they are known."""
        if self.labels_known:
            return

        def label(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index, self._features.parse(self._record(index), with_image=False)[1]

        indices = tf.data.Dataset.range(self.num_examples)
        labels = indices.map(label, num_parallel_calls=tf.data.AUTOTUNE)
        for batch in labels.batch(4096).as_numpy_iterator():
            self.note_labels(*batch)

    def _record(self, index: tf.Tensor) -> tf.Tensor:
        def read(index: np.ndarray) -> bytes:
            try:
                return self._records[int(self._selected[index])]
            except Exception:  # of its C++ reader, of many kinds: an unreadable image
                return b""

        return tf.ensure_shape(tf.numpy_function(read, [index], tf.string), [])
