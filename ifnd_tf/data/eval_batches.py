"""One plain view of each example, in order, once: for embedding and evaluation."""

import numpy as np
import tensorflow as tf

from ifnd_tf.data.crops import centre_view
from ifnd_tf.data.host_memory import host_constant
from ifnd_tf.data.sharding import Sharding, read_ahead
from ifnd_tf.data.source import Source

Example = dict[str, tf.Tensor]


def ordered_steps(num_examples: int, batch_size: int, num_replicas: int) -> int:
    """Steps of one pass over `num_examples` with `batch_size` examples on each replica."""
    return -(-num_examples // (batch_size * num_replicas))


def pass_steps(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    num_replicas: int,
    num_workers: int = 1,
    indices: np.ndarray | None = None,
) -> int:
    """Steps of one pass of `ordered_batches`, on every replica alike.

    It is `ordered_steps`, or somewhat more where several workers stream a source without random
    access: each reads its own files, and these are not equally long.

    Args:
        source: the examples.
        image_size: S, side of the views in pixels.
        batch_size: b, examples of one replica's element.
        num_replicas: replicas of all workers.
        num_workers: hosts that feed them.
        indices: `[n]` the subset that is wanted; None: all that are readable.
    """
    chosen = _chosen(source, indices)
    if not source.streamed(image_size):
        return ordered_steps(len(chosen), batch_size, num_replicas)
    wanted = source.mask(chosen)
    longest = max(
        int(wanted[source.shard_indices(shard, num_workers)].sum()) for shard in range(num_workers)
    )
    return ordered_steps(longest, batch_size, num_replicas // num_workers)


def _chosen(source: Source, indices: np.ndarray | None) -> np.ndarray:
    """The readable ones of the indices, or all that are readable."""
    if indices is None:
        return source.readable
    wanted = np.asarray(indices, np.int32)
    return wanted[np.isin(wanted, source.readable)]


@tf.autograph.experimental.do_not_convert  # holds for the functions that it maps, too
def ordered_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    indices: np.ndarray | None = None,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """One plain view of every readable example, once, in order.

    Every replica of every worker gets `pass_steps` elements.

    Args:
        source: the examples.
        image_size: S, side of the views in pixels.
        batch_size: b, examples of one replica's element.
        indices: `[n]` a subset in this order (in stored order without random access); None:
            all that are readable.
        input_context: of this worker, from `distribute_datasets_from_function`; None: one replica.

    Returns:
        Elements `{"index": int32 [b], "images": uint8 [b, S, S, 3], "label": int32 [b]}`; what
        is left over is padding: index -1, label -1, black images.
    """
    sharding = Sharding.of(input_context)
    chosen = _chosen(source, indices)
    steps = pass_steps(
        source,
        image_size=image_size,
        batch_size=batch_size,
        num_replicas=sharding.replicas,
        num_workers=sharding.workers,
        indices=indices,
    )
    if source.streamed(image_size):
        wanted = source.mask(chosen)
        stored = source.stream(shard=sharding.worker, num_shards=sharding.workers, among=wanted)
        views = _of_stored(source, stored, image_size)
    else:
        padded = np.full([steps, sharding.replicas, batch_size], -1, np.int32)
        padded.reshape(-1)[: len(chosen)] = chosen
        mine = padded[:, sharding.first : sharding.first + sharding.local].reshape(-1, batch_size)
        if source.pixels is not None and source.in_memory(image_size):
            return read_ahead(_from_memory(source, mine, image_size, sharding.ahead), sharding)
        views = _by_index(source, mine[mine >= 0], image_size)
    batches = _batched(source, views, steps * sharding.local, image_size, batch_size)
    return read_ahead(batches, sharding)


def _from_memory(source: Source, mine: np.ndarray, size: int, ahead: int) -> tf.data.Dataset:
    """Batches of the images in memory at the indices `mine`, `ahead` of them made at a time."""
    labels, pixels = source.labels, source.pixels

    def view(index: tf.Tensor) -> Example:
        padding = index < 0
        views = centre_view(tf.gather(pixels, tf.maximum(index, 0)), size)
        views = tf.where(padding[:, None, None, None], tf.zeros_like(views), views)
        label = tf.where(padding, -1, tf.gather(labels, tf.maximum(index, 0)))
        return {"index": index, "images": views, "label": label}

    elements = tf.data.Dataset.from_tensor_slices(mine)
    return elements.map(view, num_parallel_calls=ahead)


def _of_stored(source: Source, stored: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """The view of each example of a stream."""

    def view(example: Example) -> Example:
        image = centre_view(source.decode(example["image"], size), size)
        return {"index": example["index"], "images": image, "label": example["label"]}

    return stored.map(view, num_parallel_calls=tf.data.AUTOTUNE)


def _by_index(source: Source, indices: np.ndarray, size: int) -> tf.data.Dataset:
    """The view of each example, in the order of the indices."""

    def view(index: tf.Tensor) -> Example:
        def from_file() -> tuple[tf.Tensor, tf.Tensor]:
            stored, label = source.labelled_fetch()(index)
            return source.decode(stored, size), label

        def with_label(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return image, tf.gather(host_constant(source.labels), index)

        image, label = source.from_memory_or(from_file, index, size, with_label)
        return {"index": index, "images": centre_view(image, size), "label": label}

    chosen = tf.data.Dataset.from_tensor_slices(indices)
    return chosen.map(view, num_parallel_calls=tf.data.AUTOTUNE)


def _batched(
    source: Source, singles: tf.data.Dataset, elements: int, size: int, batch_size: int
) -> tf.data.Dataset:
    """Exactly `elements` batches, with padding for examples that turn out to be unreadable."""
    singles = singles.ignore_errors()  # an image may have become unreadable since the scan
    blank = {
        "index": tf.constant(-1),
        "images": tf.zeros([size, size, 3], tf.uint8),
        "label": tf.constant(-1),
    }
    total = elements * batch_size
    singles = singles.concatenate(tf.data.Dataset.from_tensors(blank).repeat(total)).take(total)
    batches = source.noting_labels(singles.batch(batch_size, drop_remainder=True))
    return batches.apply(tf.data.experimental.assert_cardinality(elements))
