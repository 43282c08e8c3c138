"""Examples that are read in the order of their files: for data too large to be listed or held.

The parts of a stream are files, or pieces of files, whose lengths are known. The index of an
example is the lengths of the parts before its own, plus its place there, among those selected.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.data.lazy_labels import LazyLabels
from ifnd_tf.data.permutation import permuted

# Encoded images shuffled together, besides the order of the parts, which is shuffled whole.
_SHUFFLE_CHUNK = 2048
# Most chunks of a group, so that no two chunks share random numbers.
_MOST_CHUNKS = 4096
# Parts read at the same time: at least; enough for this many examples if they are short; at most.
_OPEN, _OPEN_EXAMPLES, _MOST_OPEN = 16, 4096, 64


class StreamSource(LazyLabels):
    """Examples in parts; each host reads only its own parts.

    Args:
        name: how the user named it.
        parts: columns that describe the parts to `read`, each `[P]`.
        lengths: int `[P]`, examples of each part.
        class_names: the classes, by label.
        has_labels, split: see `LazyLabels`.
    """

    random_access = False

    def __init__(
        self,
        name: str,
        parts: Sequence[np.ndarray],
        lengths: np.ndarray,
        class_names: Sequence[str] = (),
        *,
        has_labels: bool,
        split: str,
    ):
        self._parts, self._lengths = tuple(parts), lengths.astype(np.int64)
        self._offsets = np.cumsum(self._lengths) - self._lengths
        count = int(self._lengths.sum())
        super().__init__(name, count, class_names, has_labels=has_labels, split=split)
        self._select(np.arange(count))

    def _select(self, places: np.ndarray) -> None:
        """Takes the examples at some places of the whole, int `[N]` ascending."""
        self._selected = places
        self._number = np.full(int(self._lengths.sum()), -1, np.int32)
        self._number[places] = np.arange(len(places))

    def limit(self, indices: np.ndarray) -> None:
        """See `Source.limit`."""
        super().limit(indices)
        self._select(self._selected[indices])

    def reason(self, index: int) -> str:
        """Why an image cannot be read, in one line."""
        return "cannot be decoded"

    @abc.abstractmethod
    def read(self, *part: tf.Tensor) -> tf.data.Dataset:
        """The examples of a part as they are stored, exactly as many as its length."""

    @abc.abstractmethod
    def parse(self, stored: Any, *, with_image: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image of a stored example, "" where it is missing or not wanted, and the
        label or -1."""

    def read_labels(self) -> None:
        """Reads the labels in a pass of their own, unless they are known."""
        if self.labels_known:
            return
        stored = self._in_order(range(len(self._lengths)))
        parsed = stored.map(
            lambda raw, example: (raw, self.parse(example, with_image=False)[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        for raw, label in parsed.batch(4096).as_numpy_iterator():
            self.note_labels(self._number[raw], label)

    def describe(self, index: int) -> str:
        """The example's part and place in it."""
        part, place = self._place(index)
        return f"{self._parts[0][part].rpartition('/')[2]}__{place}"

    def _place(self, index: int) -> tuple[int, int]:
        """The example's part, and its place among the part's."""
        raw = int(self._selected[index])
        part = int(np.searchsorted(self._offsets, raw, side="right")) - 1
        return part, raw - int(self._offsets[part])

    def shard_indices(self, shard: int, num_shards: int) -> np.ndarray:
        """The indices that `stream` gives to a shard, ascending."""
        parts = self._shard_parts(shard, num_shards)
        number = [self._number[self._span(part)] for part in parts]
        mine = np.concatenate([*number, np.zeros(0, np.int32)])
        return mine[self._of_shard(mine, shard, num_shards)]

    def stream(
        self,
        *,
        shard: int = 0,
        num_shards: int = 1,
        shuffle_seed: tf.Tensor | None = None,
        among: np.ndarray | None = None,
        skip: int | tf.Tensor = 0,
    ) -> tf.data.Dataset:
        """See `Source.stream`; with fewer parts than shards, every shard reads all parts."""
        parts = self._shard_parts(shard, num_shards)
        number = self._number
        wanted = self._of_shard(number, shard, num_shards)
        if among is not None:
            wanted &= among[number]

        def chosen(stored: tf.data.Dataset) -> tf.data.Dataset:
            kept = stored.filter(lambda raw, _: tf.gather(wanted, raw))
            return kept.map(lambda raw, example: (tf.gather(number, raw), example))

        if shuffle_seed is None:
            examples = chosen(self._in_order(parts)).skip(skip)
        else:
            lengths = np.array([np.count_nonzero(wanted[self._span(p)]) for p in parts], np.int64)
            examples = self._shuffled(parts, lengths, chosen, shuffle_seed, skip)
        return examples.map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def _example(self, index: tf.Tensor, stored: Any) -> dict[str, tf.Tensor]:
        image, label = self.parse(stored)
        return {"index": index, "image": image, "label": label}

    def _in_order(self, parts: Sequence[int]) -> tf.data.Dataset:
        """Pairs of place in the whole (int64) and stored example."""
        columns = [tf.constant(column[list(parts)]) for column in (self._offsets, *self._parts)]
        return tf.data.Dataset.from_tensor_slices(tuple(columns)).flat_map(self._numbered)

    def _numbered(self, offset: tf.Tensor, *part: tf.Tensor) -> tf.data.Dataset:
        return self.read(*part).enumerate(offset)

    def _shuffled(
        self, parts: Sequence[int], lengths: np.ndarray, chosen: Any, seed: tf.Tensor, skip: Any
    ) -> tf.data.Dataset:
        """A random order: group by group of parts, chunk by chunk within a group.

        So the lengths tell which group holds a place of the order, and a start within the order
        opens no part of the groups before it.
        """
        open_parts = _open_parts(lengths)
        order = _permutation(len(lengths), seed, -1)
        columns = tuple(
            tf.gather(tf.constant(column[list(parts)]), order)
            for column in (self._offsets, *self._parts)
        )
        groups = (len(lengths) - 1) // open_parts + 1
        group_of = tf.range(len(lengths)) // open_parts
        ends = tf.cumsum(tf.math.segment_sum(tf.gather(lengths, order), group_of))
        skip = tf.cast(skip, tf.int64)
        first = tf.minimum(tf.searchsorted(ends, skip[None], side="right")[0], groups - 1)
        rest = skip - tf.concat([tf.zeros([1], tf.int64), ends], axis=0)[first]

        def of_group(group: tf.Tensor, columns: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
            stored = tf.data.Dataset.from_tensor_slices(columns).interleave(
                self._numbered, cycle_length=open_parts, num_parallel_calls=open_parts,
                deterministic=True,
            )  # fmt: skip
            return _shuffle_chunks(chosen(stored), seed, group)

        numbered = tf.data.Dataset.from_tensor_slices(columns).batch(open_parts).enumerate()
        return numbered.skip(tf.cast(first, tf.int64)).flat_map(of_group).skip(rest)

    def _span(self, part: int) -> slice:
        return slice(self._offsets[part], self._offsets[part] + self._lengths[part])

    def _by_part(self, num_shards: int) -> bool:
        return len(self._lengths) >= num_shards

    def _shard_parts(self, shard: int, num_shards: int) -> range:
        count = len(self._lengths)
        return range(shard, count, num_shards) if self._by_part(num_shards) else range(count)

    def _of_shard(self, number: np.ndarray, shard: int, num_shards: int) -> np.ndarray:
        """bool: which of the indices `number` (-1: not selected) the shard yields."""
        mine = number >= 0
        return mine if self._by_part(num_shards) else mine & (number % num_shards == shard)


def _open_parts(lengths: np.ndarray) -> int:
    """Parts to read at the same time."""
    enough = -(-_OPEN_EXAMPLES // max(1, int(lengths.mean())))
    return min(max(_OPEN, min(enough, _MOST_OPEN)), len(lengths))


def _permutation(count: int | tf.Tensor, seed: tf.Tensor, part: int | tf.Tensor) -> tf.Tensor:
    """A random order of `count` things, a function of (seed, part)."""
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(part, tf.int32)])
    return permuted(tf.range(count), count, key)


def _shuffle_chunks(
    examples: tf.data.Dataset, seed: tf.Tensor, group: tf.Tensor
) -> tf.data.Dataset:
    """Shuffles chunk by chunk; `Dataset.shuffle` would mix in TensorFlow's global seed."""

    def shuffle(number: tf.Tensor, chunk: tuple[tf.Tensor, Any]) -> tuple:
        order = _permutation(tf.shape(chunk[0])[0], seed, group * _MOST_CHUNKS + number)
        return tf.nest.map_structure(lambda column: tf.gather(column, order), chunk)

    return examples.batch(_SHUFFLE_CHUNK).enumerate().map(shuffle).prefetch(1).unbatch()
