"""A set of examples whose indices stay the same across epochs, shards, restarts and machines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Unreadable(NamedTuple):
    """An example that could not be decoded: its index, its path or id, and the reason."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    name: str
    reason: str


class Source:
    """Examples 0 to N - 1: `{"index": int32, "image": bytes or uint8 HWC, "label": int32}`.

    Subclasses give `describe` and either `fetch` (random access) or `stream`.

    Attributes:
        name: how the user named it.
        num_examples: N, unreadable examples included.
        class_names: the classes, by label; empty for data without labels.
        labels: int32 `[N]`, -1 where unknown.
        targets: int8 `[N, C]` of images with several labels each: 1 present, 0 absent, -1
            unknown; None for data of one label an image. Where there are targets, labels are -1.
        random_access: whether `fetch` works.
        unreadable: examples known not to decode, by index; they keep their place in the index.
        lost: by index, examples that could be read at first and later, while training, not.
        scanned: whether every image was tried, so that `unreadable` is complete.
        cache: what `scan` kept: `pixels` of a source that is not in memory from the start.
    """

    random_access = True
    targets: np.ndarray | None = None

    def __init__(self, name: str, num_examples: int, class_names: Sequence[str] = ()):
        self.name = name
        self.num_examples = num_examples
        self.class_names = tuple(class_names)
        self.unreadable: list[Unreadable] = []
        self.lost: dict[int, Unreadable] = {}
        self.scanned = False
        self.cache: tf.Tensor | None = None

    @property
    def labels(self) -> np.ndarray:
        """int32 `[N]`, -1 where unknown."""
        raise NotImplementedError

    @property
    def labelled(self) -> bool:
        """Whether anything is known of any example."""
        return self.targets is not None or bool(np.any(self.labels >= 0))

    @property
    def readable(self) -> np.ndarray:
        """int32 `[M]`: the indices without the unreadable ones, ascending."""
        keep = np.ones(self.num_examples, bool)
        keep[[bad.index for bad in self.unreadable]] = False
        return np.flatnonzero(keep).astype(np.int32)

    @property
    def pixels(self) -> tf.Tensor | None:
        """uint8 `[N, H, W, 3]` tensor of the decoded images, or None when not in memory."""
        return self.cache

    @property
    def arrays(self) -> np.ndarray | None:
        """`pixels` as a NumPy array that shares its memory (do not write), or None."""
        return None if self.pixels is None else np.asarray(memoryview(self.pixels))

    def subset(self, indices: np.ndarray) -> "Source":
        """A source of its own with these examples (ascending), renumbered from 0."""
        raise NotImplementedError

    def found_labels(self, labels: np.ndarray) -> None:
        """Takes the int32 `[N]` labels that `scan` met; for sources that learn them by reading."""

    def lose(self, index: int) -> None:
        """Notes that an example could not be read; -1 for one whose index is not known."""
        name = self.describe(index) if index >= 0 else f"an image of {self.name}"
        self.lost[index] = Unreadable(index, name, "could not be read while training")

    def describe(self, index: int) -> str:
        """The path or id of an example, for people."""
        raise NotImplementedError

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The image at an int32 scalar index: a string scalar (encoded) or uint8 `[H, W, 3]`.

        Runs in tf.data's threads, so it is made of graph operations.
        """
        raise NotImplementedError

    def shard_indices(self, shard: int, num_shards: int) -> np.ndarray:
        """int32: the indices that `stream` gives to a shard, ascending."""
        raise NotImplementedError

    def stream(
        self, *, shard: int = 0, num_shards: int = 1, shuffle_seed: tf.Tensor | None = None
    ) -> tf.data.Dataset:
        """One pass over a shard's examples, for sources without random access.

        Args:
            shard: number of this reader, in [0, num_shards).
            num_shards: readers that share the data; each reads only its own files.
            shuffle_seed: integer scalar in [0, 2**31) that fixes a random order; None: ascending.

        Returns:
            A data set of `{"index", "image", "label"}`.
        """
        raise NotImplementedError


class ArraySource(Source):
    """Examples that are in memory from the start.

    Args:
        name: how the user named it.
        images: uint8 `[N, H, W, 3]`.
        labels: `[N]`, -1 where unknown.
        class_names: the classes, by label.
        ids: `[N]` names of the examples; None: their indices.
    """

    def __init__(
        self,
        name: str,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str] = (),
        ids: np.ndarray | None = None,
    ):
        super().__init__(name, len(images), class_names)
        self._images = np.ascontiguousarray(images, np.uint8)
        self._labels = np.asarray(labels, np.int32)
        self._ids = np.arange(len(images)) if ids is None else ids
        self.scanned = True

    @property
    def pixels(self) -> tf.Tensor:
        """uint8 `[N, H, W, 3]` tensor; made on first use, as strategies must precede tensors."""
        if self.cache is None:
            # init_scope: first use may be inside a tf.data function, whose tensors die with it.
            with tf.init_scope(), tf.device("CPU:0"):
                self.cache = tf.constant(self._images)
        return self.cache

    @property
    def labels(self) -> np.ndarray:
        """int32 `[N]`, -1 where unknown."""
        return self._labels

    def describe(self, index: int) -> str:
        """The example's name."""
        return f"{self.name} {self._ids[index]}"

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """uint8 `[H, W, 3]` of an index."""
        return tf.gather(self.pixels, index)

    def subset(self, indices: np.ndarray) -> "ArraySource":
        """A source of its own with these examples, renumbered from 0."""
        return ArraySource(
            self.name,
            self._images[indices],
            self._labels[indices],
            self.class_names,
            self._ids[indices],
        )
