"""A split of a prepared TensorFlow data set, read as a stream of encoded images.

The index of an example is the one that tfds' own ids spell out: the lengths of the files
before its file, plus its place there (within the split or slice that was asked for).
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError

# Encoded images shuffled together, besides the order of the files, which is shuffled whole.
_SHUFFLE_CHUNK = 2048
_OPEN_FILES = 16


class _Files(NamedTuple):
    """`take` records to read of each path after the first `skip`, numbered from `offset`."""

    path: np.ndarray
    skip: np.ndarray
    take: np.ndarray
    offset: np.ndarray


class TfdsSource(Source):
    """A split of a prepared builder; each host reads only its own files.

    Args:
        name: how the user named it.
        builder: a prepared `tfds.core.DatasetBuilder`.
        split: a split or a slice of one.
        selected: int `[N]` ascending places within the split to which the source is limited.
        raw_labels: labels of the whole split, if already read.
    """

    random_access = False

    def __init__(
        self,
        name: str,
        builder: Any,
        split: str,
        selected: np.ndarray | None = None,
        raw_labels: np.ndarray | None = None,
    ):
        try:
            instructions = builder.info.splits[split].file_instructions
        except (KeyError, ValueError, AssertionError) as error:
            raise UserError(
                f"--dataset={name}: expected a split among {', '.join(builder.info.splits)}, or a "
                f"slice such as train[:90%]. Received: {split!r}."
            ) from error
        take = np.array([each.take for each in instructions], np.int64)
        self._files = _Files(
            np.array([str(each.filename) for each in instructions], object),
            np.array([each.skip for each in instructions], np.int64),
            take,
            np.cumsum(take) - take,
        )
        self._raw_count = int(take.sum())
        self._selected = np.arange(self._raw_count) if selected is None else selected
        self._number = np.full(self._raw_count, -1, np.int32)
        self._number[self._selected] = np.arange(len(self._selected))
        self._builder, self._split = builder, split
        self._image, self._label = _feature_keys(name, builder)
        self._raw_labels = raw_labels
        names = builder.info.features[self._label].names if self._label else ()
        super().__init__(name, len(self._selected), names or ())
        if not self.num_examples:
            raise UserError(f"--dataset={name}: expected examples. Received: none in {split!r}.")

    @property
    def labels(self) -> np.ndarray:
        """int32 `[N]`, -1 where unknown; the first call reads all records, but no image."""
        if self._raw_labels is None:
            self._raw_labels = np.full(self._raw_count, -1, np.int32)
            if self._label:
                records = self._records(range(len(self._files.path)), None)
                parsed = records.map(self._parse_label, num_parallel_calls=tf.data.AUTOTUNE)
                for raw, label in parsed.batch(4096).as_numpy_iterator():
                    self._raw_labels[raw] = label
        return self._raw_labels[self._selected]

    def describe(self, index: int) -> str:
        """The example's tfds id."""
        raw = int(self._selected[index])
        file = int(np.searchsorted(self._files.offset, raw, side="right")) - 1
        place = raw - self._files.offset[file] + self._files.skip[file]
        return f"{self._files.path[file].rpartition('/')[2]}__{place}"

    def overlaps(self, other: "TfdsSource") -> bool:
        """Whether both read a record of the same file."""
        spans = [
            {path: (skip, skip + take) for path, skip, take in zip(*each._files[:3], strict=True)}
            for each in (self, other)
        ]
        shared = spans[0].keys() & spans[1].keys()
        return any(
            max(spans[0][path][0], spans[1][path][0]) < min(spans[0][path][1], spans[1][path][1])
            for path in shared
        )

    def subset(self, indices: np.ndarray) -> "TfdsSource":
        """A source of its own with these examples, renumbered from 0; `indices` ascend."""
        return TfdsSource(
            self.name, self._builder, self._split, self._selected[indices], self._raw_labels
        )

    def shard_indices(self, shard: int, num_shards: int) -> np.ndarray:
        """The indices that `stream` gives to a shard, ascending."""
        files = self._shard_files(shard, num_shards)
        offset, take = self._files.offset, self._files.take
        pieces = [self._number[offset[file] : offset[file] + take[file]] for file in files]
        mine = np.concatenate([*pieces, np.zeros(0, np.int32)])
        mine = mine[mine >= 0]
        return mine if self._by_file(num_shards) else mine[mine % num_shards == shard]

    def stream(
        self, *, shard: int = 0, num_shards: int = 1, shuffle_seed: tf.Tensor | None = None
    ) -> tf.data.Dataset:
        """See `Source.stream`; with fewer files than shards, every shard reads all files."""
        records = self._records(self._shard_files(shard, num_shards), shuffle_seed)
        number = self._number
        records = records.map(lambda raw, record: (tf.gather(number, raw), record))
        records = records.filter(lambda index, _: index >= 0)
        if not self._by_file(num_shards):
            records = records.filter(lambda index, _: index % num_shards == shard)
        if shuffle_seed is not None:
            records = _shuffled(records, shuffle_seed)
        return records.map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)

    def _by_file(self, num_shards: int) -> bool:
        return len(self._files.path) >= num_shards

    def _shard_files(self, shard: int, num_shards: int) -> range:
        count = len(self._files.path)
        return range(shard, count, num_shards) if self._by_file(num_shards) else range(count)

    def _records(self, files: range, shuffle_seed: tf.Tensor | None) -> tf.data.Dataset:
        """Pairs of place in the split (int64) and serialised example."""
        chosen = [tf.constant(column[list(files)]) for column in self._files]
        cycle = 1
        if shuffle_seed is not None:
            order = _permutation(len(files), shuffle_seed, -1)
            chosen = [tf.gather(column, order) for column in chosen]
            cycle = min(_OPEN_FILES, len(files))

        def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, offset: tf.Tensor) -> Any:
            # What a damaged file lacks is handed on as empty records, which count as unreadable
            # images. A file that is not there must not be opened: that error comes again for ever.
            there = tf.numpy_function(lambda name: tf.io.gfile.exists(name), [path], tf.bool)
            records = tf.data.TFRecordDataset(path, buffer_size=8 << 20)
            count = tf.where(tf.ensure_shape(there, []), tf.int64.max, 0)
            records = records.take(count).ignore_errors(log_warning=False)
            lacking = tf.data.Dataset.from_tensors("").repeat()
            return records.concatenate(lacking).skip(skip).take(take).enumerate(offset)

        return tf.data.Dataset.from_tensor_slices(tuple(chosen)).interleave(
            read, cycle_length=cycle, num_parallel_calls=cycle, deterministic=True
        )

    def _parse(self, index: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = self._image_and_label(record)
        return {"index": index, "image": image, "label": label}

    def _parse_label(self, raw: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return raw, self._image_and_label(record, with_image=False)[1]

    def _image_and_label(
        self, record: tf.Tensor, *, with_image: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image, "" where it is missing or not wanted, and the label or -1."""
        missing = tf.constant(""), tf.constant(-1)

        def stored() -> tuple[tf.Tensor, tf.Tensor]:
            keys = {key: True for key in (self._image if with_image else "", self._label) if key}
            found = _decoded(self._builder, record, keys)
            label = tf.cast(found[self._label], tf.int32) if self._label else missing[1]
            return found[self._image] if with_image else missing[0], label

        return tf.cond(record == "", lambda: missing, stored)


def _permutation(count: int | tf.Tensor, seed: tf.Tensor, part: int | tf.Tensor) -> tf.Tensor:
    """A random order of `count` things, a function of (seed, part)."""
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(part, tf.int32)])
    return tf.random.experimental.index_shuffle(tf.range(count), seed=key, max_index=count - 1)


def _shuffled(records: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffles chunk by chunk; `Dataset.shuffle` would mix in TensorFlow's global seed."""

    def shuffle(number: tf.Tensor, chunk: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        order = _permutation(tf.shape(chunk[0])[0], seed, number)
        return tuple(tf.gather(column, order) for column in chunk)

    return records.batch(_SHUFFLE_CHUNK).enumerate().map(shuffle).prefetch(1).unbatch()


def _decoded(builder: Any, record: tf.Tensor, keys: dict[str, bool]) -> dict[str, tf.Tensor]:
    """The named features of a serialised example, images left encoded."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    partial = tfds.decode.PartialDecoding(keys).extract_features(features)
    images = [key for key in keys if isinstance(features[key], tfds.features.Image)]
    skip = {key: tfds.decode.SkipDecoding() for key in images}
    return partial.deserialize_example(record, decoders=skip)


def _feature_keys(name: str, builder: Any) -> tuple[str, str]:
    """Keys of the image and of the label ("" if there is none)."""
    import tensorflow_datasets as tfds

    def first(kind: type, preferred: str) -> str:
        keys = [key for key, each in builder.info.features.items() if isinstance(each, kind)]
        return preferred if preferred in keys else (keys[0] if keys else "")

    image = first(tfds.features.Image, "image")
    if not image or builder.info.features[image].np_dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"--dataset={name}: expected a data set with an image feature of 8 or 16 bits. "
            f"Received: features {', '.join(builder.info.features)}."
        )
    return image, first(tfds.features.ClassLabel, "label")
