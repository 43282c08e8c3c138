"""A set of examples whose indices stay the same across epochs, shards, restarts and machines."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import Contents
from ifnd_tf.data.decode import DECODING, as_pixels
from ifnd_tf.data.host_memory import host_constant, unrewritten
from ifnd_tf.data.kept_images import KeptImages

# Names of the split to evaluate on, best first.
EVAL_SPLITS = ("test", "validation", "val", "valid")


class Unreadable(NamedTuple):
    """An example that could not be decoded: its index, its path or id, and the reason."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    name: str
    reason: str


class Source:
    """Examples 0 to N - 1: `{"index": int32, "image": bytes or uint8 HWC, "label": int32}`.

    Subclasses give `describe`, either `fetch` (random access) or `stream`, and extend `limit`.

    Attributes:
        name: how the user named it.
        num_examples: N, unreadable examples included.
        class_names: the classes, by label; empty for data without labels.
        labels: int32 `[N]`, -1 where unknown; see `LazyLabels`.
        targets: int8 `[N, C]` where images have several labels each, and `labels` are -1: 1
            present, 0 absent, -1 unknown; else None.
        random_access: whether `fetch` works.
        unreadable: examples known not to decode, by index; they keep their place in the index.
        lost: by index, examples that could be read at first, and not while training.
        scanned: whether every image was tried, so that `unreadable` is complete.
        kept: images that `scan` left decoded in memory, if any.
        decoding: how its encoded images become pixels.
        contents: what was found where the data set lies, of all its splits together.
    """

    random_access = True
    decoding = DECODING
    contents = Contents()
    targets: np.ndarray | None = None

    def __init__(
        self, name: str, num_examples: int, class_names: Sequence[str] = (),
        labels: np.ndarray | None = None,
    ):  # fmt: skip
        self.name, self.num_examples = name, num_examples
        self.class_names = tuple(class_names)
        self._labels = None if labels is None else np.asarray(labels, np.int32)
        self.unreadable: list[Unreadable] = []
        self.lost: dict[int, Unreadable] = {}
        self._lost_unnamed = 0
        self.scanned = False
        self.kept: KeptImages | None = None
        self._array: tf.Tensor | None = None

    @property
    def labels(self) -> np.ndarray:
        """int32 `[N]`, -1 where unknown."""
        assert self._labels is not None
        return self._labels

    @property
    def labels_known(self) -> bool:
        """Whether all existing labels are known."""
        return True

    def read_labels(self) -> None:
        """Reads the labels not known yet, for callers that need them before the images are read."""

    def set_labels(self, labels: np.ndarray | None) -> None:
        """Takes labels int32 `[N]` of an earlier pass; ignores None, and any of another shape."""

    def note_unlabelled(self, indices: Sequence[int]) -> None:
        """Notes that unreadable examples have no label, so that `labels_known` can become true."""

    def noting_labels(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches `{"index", "label", ...}`, whose labels are noted when they are read."""
        return batches

    @property
    def labelled(self) -> bool:
        """Whether any example has a label or targets."""
        return self.targets is not None or bool(np.any(self.labels >= 0))

    @property
    def readable(self) -> np.ndarray:
        """int32 `[M]`: the indices without the unreadable ones, ascending."""
        keep = np.ones(self.num_examples, bool)
        keep[[bad.index for bad in self.unreadable]] = False
        return np.flatnonzero(keep).astype(np.int32)

    @property
    def readable_labels(self) -> np.ndarray:
        """int32 `[N]`, -1 also where the image cannot be read."""
        return np.where(self.mask(self.readable), self.labels, -1)

    @property
    def pixels(self) -> tf.Tensor | None:
        """uint8 `[N, H, W, 3]` of the images, if all are in memory in full and have one size."""
        return self._array

    def kept_for(self, view_size: int) -> KeptImages | None:
        """The images in memory, if they are those that would be decoded for views of S pixels."""
        return self.kept if self.kept is not None and self.kept.serves(view_size) else None

    def in_memory(self, view_size: int) -> bool:
        """Whether all images that can be read are in memory, decoded for views of S pixels."""
        if self.kept is None:
            return self.pixels is not None
        return self.kept.serves(view_size) and self.kept.holds_all(self.readable)

    def streamed(self, view_size: int) -> bool:
        """Whether examples come in the files' order only: neither by index nor from memory."""
        return not self.random_access and self.kept_for(view_size) is None

    def keep(self, images: KeptImages) -> None:
        """Stores decoded images: all of them for a source without random access."""
        images.freeze()
        self.kept, self._array = images, images.as_array()

    def mask(self, indices: np.ndarray) -> np.ndarray:
        """bool `[N]`: which examples are among the indices."""
        return np.isin(np.arange(self.num_examples), indices)

    def subset(self, indices: np.ndarray) -> "Source":
        """A source of its own with these examples (ascending), renumbered from 0."""
        part = copy.copy(self)
        part.limit(np.asarray(indices))
        return part

    def limit(self, indices: np.ndarray) -> None:
        """Keeps only these examples (ascending), renumbered from 0."""
        bad = [each.index for each in self.unreadable]
        places = zip(*np.intersect1d(bad, indices, return_indices=True)[1:], strict=True)
        self.unreadable = [self.unreadable[i]._replace(index=int(new)) for i, new in places]
        self.num_examples, self.lost, self._array = len(indices), {}, None
        self.kept = None if self.kept is None else self.kept.subset(indices)
        self._labels = None if self._labels is None else self._labels[indices]
        self.targets = None if self.targets is None else self.targets[indices]

    def lose(self, index: int) -> None:
        """Notes that an example could not be read; -1 for one whose index is not known.

        Examples without an index are counted per epoch, since each is lost anew in every epoch;
        `count_lost_anew` starts the count.
        """
        name, key = self.describe(index) if index >= 0 else self.unnamed, index
        if index < 0:
            self._lost_unnamed += 1
            key = -self._lost_unnamed
        self.lost[key] = Unreadable(index, name, "could not be read while training")

    def count_lost_anew(self) -> None:
        """Begins an epoch: examples whose index is not known may be lost again."""
        self._lost_unnamed = 0

    @property
    def unnamed(self) -> str:
        """What to call an example whose index is not known."""
        return f"an image of {self.name}"

    def describe(self, index: int) -> str:
        """The path or id of an example, for people, in one line."""
        raise NotImplementedError

    @property
    def sizes(self) -> np.ndarray:
        """int64 `[N]`: bytes of each example's file, -1 where there is none on this disk."""
        return np.full(self.num_examples, -1, np.int64)

    def decode(self, image: tf.Tensor, view_size: int = 0) -> tf.Tensor:
        """uint8 `[H, W, 3]` of an image that `fetch` or `stream` gave; see `decode_image`."""
        return as_pixels(image, self.decoding, view_size)

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The image at an int32 scalar index: a string scalar (encoded) or uint8 `[H, W, 3]`.

        Runs in tf.data's threads, so it is made of graph operations.
        """
        raise NotImplementedError

    def labelled_fetch(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """A function like `fetch` that gives the label as well."""
        labels = host_constant(self.labels)
        return lambda index: (self.fetch(index), tf.gather(labels, index))

    def from_memory_or(
        self, from_file: Callable[[], Any], index: tf.Tensor, view_size: int,
        use: Callable[[tf.Tensor], Any],
    ) -> Any:  # fmt: skip
        """`use(image)` if the image is in memory, else `from_file()`.

        Args:
            from_file: by random access; never called for a source without it.
            index: int32 [], of the example.
            view_size: S of the views that the image is decoded for.
            use: takes uint8 `[H, W, 3]`.
        """
        kept = self.kept_for(view_size)
        if kept is None:
            return from_file()
        if not self.random_access:
            return use(kept.image(index))
        return tf.cond(kept.holds(index), lambda: use(kept.image(index)), from_file)

    def fetch_all(self, indices: np.ndarray) -> tf.data.Dataset:
        """`{"index", "image", "label"}` of some examples in their order, by random access."""
        fetch = self.labelled_fetch()

        def example(index: tf.Tensor) -> dict[str, tf.Tensor]:
            image, label = fetch(index)
            return {"index": index, "image": image, "label": label}

        chosen = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int32))
        return unrewritten(chosen.map(example, num_parallel_calls=tf.data.AUTOTUNE))

    def shard_indices(self, shard: int, num_shards: int) -> np.ndarray:
        """int32: the indices that `stream` gives to a shard, ascending."""
        raise NotImplementedError

    def stream(
        self, *, shard: int = 0, num_shards: int = 1, shuffle_seed: tf.Tensor | None = None,
        among: np.ndarray | None = None, skip: int | tf.Tensor = 0,
    ) -> tf.data.Dataset:  # fmt: skip
        """One pass over a shard's examples, for sources without random access.

        Args:
            shard: number of this reader, in [0, num_shards).
            num_shards: readers that share the data; each reads only its own files.
            shuffle_seed: integer scalar in [0, 2**31) that fixes a random order; None: ascending.
            among: bool `[N]`, the examples that are wanted; None: all.
            skip: wanted examples to leave out at the start of the order.

        Returns:
            A data set of `{"index", "image", "label"}`.
        """
        raise NotImplementedError
