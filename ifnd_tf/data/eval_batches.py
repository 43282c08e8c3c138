"""One plain view of each example, in order, once: for embedding and evaluation."""

import numpy as np
import tensorflow as tf

from ifnd_tf.data import images
from ifnd_tf.data.scan import pixels_of
from ifnd_tf.data.sharding import Layout, ready
from ifnd_tf.data.source import Source

Example = dict[str, tf.Tensor]


def ordered_steps(num_examples: int, batch_size: int, num_replicas: int) -> int:
    """Steps of one pass over `num_examples` with `batch_size` examples on each replica."""
    return -(-num_examples // (batch_size * num_replicas))


def pass_steps(
    source: Source,
    *,
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
        batch_size: b, examples of one replica's element.
        num_replicas: replicas of all workers.
        num_workers: hosts that feed them.
        indices: `[n]` the subset that is wanted; None: all that are readable.
    """
    chosen = _chosen(source, indices)
    if source.pixels is not None or source.random_access:
        return ordered_steps(len(chosen), batch_size, num_replicas)
    wanted = np.zeros(source.num_examples, bool)
    wanted[chosen] = True
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


def ordered_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    indices: np.ndarray | None = None,
    input_context: tf.distribute.InputContext | None = None,
    num_replicas: int = 1,
) -> tf.data.Dataset:
    """One plain view of every readable example, once, in order.

    Every replica of every worker gets `pass_steps` elements.

    Args:
        source: the examples.
        image_size: S, side of the views in pixels.
        batch_size: b, examples of one replica's element.
        indices: `[n]` a subset in this order (in stored order without random access); None:
            all that are readable.
        input_context: of this worker, from `distribute_datasets_from_function`; it overrides
            `num_replicas`.
        num_replicas: replicas of the one worker.

    Returns:
        Elements `{"index": int32 [b], "images": uint8 [b, S, S, 3], "label": int32 [b]}`; what
        is left over is padding: index -1, label -1, black images.
    """
    layout = Layout.of(input_context, num_replicas)
    chosen = _chosen(source, indices)
    steps = pass_steps(
        source,
        batch_size=batch_size,
        num_replicas=layout.replicas,
        num_workers=layout.num_shards,
        indices=indices,
    )
    if source.pixels is None and not source.random_access:
        elements = steps * layout.local
        batches = _streamed(source, chosen, layout, elements, image_size, batch_size)
        return ready(batches, layout)
    padded = np.full(steps * layout.replicas * batch_size, -1, np.int32)
    padded[: len(chosen)] = chosen
    parts = padded.reshape(steps, layout.replicas, batch_size)
    mine = parts[:, layout.first : layout.first + layout.local].reshape(-1, batch_size)
    if source.pixels is not None:
        return ready(_from_memory(source, mine, image_size, layout.ahead), layout)
    return ready(_from_files(source, mine, image_size, batch_size), layout)


def _from_memory(source: Source, mine: np.ndarray, size: int, ahead: int) -> tf.data.Dataset:
    """Batches of rows of the images in memory, so many at a time."""
    labels, pixels = source.labels, source.pixels

    def view(index: tf.Tensor) -> Example:
        padding = index < 0
        views = images.centre_view(tf.gather(pixels, tf.maximum(index, 0)), size)
        views = tf.where(padding[:, None, None, None], tf.zeros_like(views), views)
        label = tf.where(padding, -1, tf.gather(labels, tf.maximum(index, 0)))
        return {"index": index, "images": views, "label": label}

    elements = tf.data.Dataset.from_tensor_slices(mine)
    return elements.map(view, num_parallel_calls=ahead)


def _from_files(source: Source, mine: np.ndarray, size: int, batch_size: int) -> tf.data.Dataset:
    """Batches of images fetched one by one."""
    labels = source.labels
    flat = mine.reshape(-1)

    def view(index: tf.Tensor) -> Example:
        image = images.centre_view(pixels_of(source.fetch(index)), size)
        return {"index": index, "images": image, "label": tf.gather(labels, index)}

    singles = tf.data.Dataset.from_tensor_slices(flat[flat >= 0])
    singles = singles.map(view, num_parallel_calls=tf.data.AUTOTUNE)
    return _padded(source, singles, len(mine), size, batch_size)


def _streamed(
    source: Source,
    chosen: np.ndarray,
    layout: Layout,
    elements: int,
    size: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Batches of what this worker's files hold of the chosen examples."""
    wanted = np.zeros(source.num_examples, bool)
    wanted[chosen] = True

    def view(example: Example) -> Example:
        image = images.centre_view(pixels_of(example["image"]), size)
        return {"index": example["index"], "images": image, "label": example["label"]}

    stream = source.stream(shard=layout.shard, num_shards=layout.num_shards)
    stream = stream.filter(lambda example: tf.gather(wanted, example["index"]))
    singles = stream.map(view, num_parallel_calls=tf.data.AUTOTUNE)
    return _padded(source, singles, elements, size, batch_size)


def _padded(
    source: Source, singles: tf.data.Dataset, elements: int, size: int, batch_size: int
) -> tf.data.Dataset:
    """Exactly so many batches, whatever number of images turn out to be unreadable."""
    singles = singles.ignore_errors()  # also of what could be read when it was scanned
    blank = {
        "index": tf.constant(-1),
        "images": tf.zeros([size, size, 3], tf.uint8),
        "label": tf.constant(-1),
    }
    total = elements * batch_size
    singles = singles.concatenate(tf.data.Dataset.from_tensors(blank).repeat(total)).take(total)
    batches = singles.batch(batch_size, drop_remainder=True)
    return batches.apply(tf.data.experimental.assert_cardinality(elements))
