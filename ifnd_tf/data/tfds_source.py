"""A split of a prepared TensorFlow data set, read as a stream of encoded images.

The index of an example is the one that tfds' own ids spell out: the lengths of the files
before its file, plus its place there (within the split or slice that was asked for).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.data.stream_source import StreamSource
from ifnd_tf.errors import UserError


class TfdsSource(StreamSource):
    """A split of a prepared builder.

    Args:
        name: how the user named it.
        builder: a prepared `tfds.core.DatasetBuilder`.
        split: a split or a slice of one.
    """

    def __init__(self, name: str, builder: Any, split: str):
        instructions = file_instructions(name, builder, split)
        take = np.array([each.take for each in instructions], np.int64)
        paths = np.array([str(each.filename) for each in instructions], object)
        skips = np.array([each.skip for each in instructions], np.int64)
        self._features = Features(name, builder)
        super().__init__(
            name, (paths, skips, take), take, self._features.class_names,
            has_labels=bool(self._features.label), split=repr(split),
        )  # fmt: skip

    def describe(self, index: int) -> str:
        """The example's tfds id."""
        paths, skips, _ = self._parts
        part, place = self._place(index)
        return f"{paths[part].rpartition('/')[2]}__{place + skips[part]}"

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """The records that are read of each file: first and end."""
        return {path: (skip, skip + take) for path, skip, take in zip(*self._parts, strict=True)}

    def read(self, path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
        """`take` serialised examples of a file after the first `skip`."""
        # Records missing from a damaged file become empty ones, which count as unreadable images.
        # A missing file must not be opened: its error would come again for ever.
        there = tf.numpy_function(lambda name: tf.io.gfile.exists(name), [path], tf.bool)
        records = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
        count = tf.where(tf.ensure_shape(there, []), tf.int64.max, 0)
        records = records.take(count).ignore_errors(log_warning=False)
        lacking = tf.data.Dataset.from_tensors("").repeat()
        return records.concatenate(lacking).skip(skip).take(take)

    def parse(self, stored: tf.Tensor, *, with_image: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """See `StreamSource.parse`."""
        return self._features.parse(stored, with_image=with_image)


def file_instructions(name: str, builder: Any, split: str) -> Any:
    """What tfds reads of each file for a split or slice: filename, skip and take.

    Raises:
        UserError: if there is no such split.
    """
    try:
        return builder.info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(
            f"--dataset={name}: expected a split among {', '.join(builder.info.splits)}, or a "
            f"slice such as train[:90%]. Received: {split!r}."
        ) from error


class Features:
    """The image and the label among a builder's features.

    Args:
        name: how the user named the data set.
        builder: a prepared `tfds.core.DatasetBuilder`.

    Attributes:
        image, label: their keys; "" for no label.
        class_names: the classes, by label.

    Raises:
        UserError: if there is no image of 8 or 16 bits.
    """

    def __init__(self, name: str, builder: Any):
        import tensorflow_datasets as tfds

        self._features = builder.info.features

        def first(kind: type, preferred: str) -> str:
            keys = [key for key, each in self._features.items() if isinstance(each, kind)]
            return preferred if preferred in keys else (keys[0] if keys else "")

        self.image, self.label = (
            first(tfds.features.Image, "image"), first(tfds.features.ClassLabel, "label"),
        )  # fmt: skip
        if not self.image or self._features[self.image].np_dtype not in (np.uint8, np.uint16):
            raise UserError(
                f"--dataset={name}: expected a data set with an image feature of 8 or 16 bits. "
                f"Received: features {', '.join(self._features)}."
            )
        self.class_names = tuple(self._features[self.label].names or ()) if self.label else ()

    def parse(self, record: tf.Tensor, *, with_image: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image of a record, "" where it is missing or not wanted, and the label."""
        missing = tf.constant(""), tf.constant(-1)

        def stored() -> tuple[tf.Tensor, tf.Tensor]:
            found = self._decoded(record, [self.image] * with_image + [self.label])
            label = tf.cast(found[self.label], tf.int32) if self.label else missing[1]
            return found[self.image] if with_image else missing[0], label

        return tf.cond(record == "", lambda: missing, stored)

    def _decoded(self, record: tf.Tensor, keys: list[str]) -> dict[str, tf.Tensor]:
        """The named features of a serialised example, images left encoded."""
        import tensorflow_datasets as tfds

        wanted = {key: True for key in keys if key}
        partial = tfds.decode.PartialDecoding(wanted).extract_features(self._features)
        images = [key for key in wanted if isinstance(self._features[key], tfds.features.Image)]
        skip = {key: tfds.decode.SkipDecoding() for key in images}
        return partial.deserialize_example(record, decoders=skip)
