"""Decodes every image once before training: finds the unreadable ones, and keeps all that fit."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.host_memory import shareable_zeros, shared
from ifnd_tf.data.image_formats import unreadable_reason
from ifnd_tf.data.source import Source, Unreadable
from ifnd_tf.data.stream_source import StreamSource
from ifnd_tf.distribute.strategies import ALONE, Workers
from ifnd_tf.errors import UserError, cause
from ifnd_tf.run.progress import Count, uncounted

_BATCH = 256


def scan(
    source: Source,
    *,
    max_corrupt_share: float = 0.01,
    cache_megabytes: int = 2048,
    progress: Count = uncounted,
    workers: Workers = ALONE,
) -> None:
    """Decodes each image once, in parallel; fills `source.unreadable` and perhaps `source.cache`.

    When all readable images have one size and fit, they stay decoded in memory, on every worker;
    the rows of unreadable ones are black and are never read. Else each worker reads a share, and
    tells the others which images it could read.

    Args:
        source: the examples; returned at once if already scanned.
        max_corrupt_share: largest tolerated share of unreadable images, in [0, 1].
        cache_megabytes: memory for decoded images, in 2**20 bytes; 0 keeps none.
        progress: called with the number of images seen and how many will be, now and then.
        workers: the processes that share the work; all must call this at once.

    Raises:
        UserError: if no image is readable, or more than the tolerated share is not.
    """
    if source.scanned:
        return
    count = source.num_examples
    shape = _first_shape(source)
    cache = None
    if shape is not None and count * int(np.prod(shape)) <= cache_megabytes << 20:
        cache = shareable_zeros((count, *shape))
    share = (0, 1) if cache is not None else (workers.index, workers.count)
    seen = np.zeros(count, bool)
    for batch in _decoded(source, shape if cache is not None else None, share).as_numpy_iterator():
        seen[batch["index"]] = True
        if cache is not None:
            cache[batch["index"]] = batch["image"]
            if not batch["same_shape"].all():
                cache = None
        progress(int(seen.sum()), -(-count // share[1]))
    if share[1] > 1:
        seen = workers.gather(seen.astype(np.int32)).max(axis=0) > 0
    source.unreadable = [
        Unreadable(int(index), source.describe(int(index)), _reason(source, int(index)))
        for index in np.flatnonzero(~seen)
    ]
    source.note_unlabelled([bad.index for bad in source.unreadable])
    require_share([source], max_corrupt_share)
    if cache is not None:
        source.cache = shared(cache)
    source.scanned = True


def require_readable(source: Source) -> None:
    """Raises `UserError` if none of the first examples can be read.

    For sources that are not scanned: dropping every image of a stream without end would hang.
    """
    if _first_shape(source) is None:
        raise UserError(
            f"--dataset={source.name}: expected readable images. Received: none among the first "
            f"{min(_BATCH, source.num_examples)}, such as {source.describe(0)}."
        )


def examples(source: Source, share: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
    """One pass over a source in ascending order: `{"index", "image" (as stored), "label"}`.

    Args:
        source: what to read.
        share: (i, n): the i-th of n readers, which together read everything once.
    """
    shard, num_shards = share
    if source.random_access:
        return source.fetch_all(np.arange(shard, source.num_examples, num_shards))
    return source.stream(shard=shard, num_shards=num_shards)


def _first_shape(source: Source) -> tuple[int, int, int] | None:
    """Size of the first readable image among the first few, or None."""
    first = examples(source).take(_BATCH).map(lambda example: source.decode(example["image"]))
    for image in first.ignore_errors().take(1):
        return tuple(image.shape)
    return None


def _decoded(
    source: Source, shape: tuple[int, int, int] | None, share: tuple[int, int]
) -> tf.data.Dataset:
    """Batches of the readable images' indices; with a shape, also their pixels."""

    def decode(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = source.decode(example["image"])
        result = {"index": example["index"], "label": example["label"]}
        if shape is not None:
            same = tf.reduce_all(tf.shape(image) == shape)
            kept = tf.cond(same, lambda: image, lambda: tf.zeros(shape, tf.uint8))
            result |= {"image": tf.ensure_shape(kept, shape), "same_shape": same}
        else:
            # An output that needs the pixels, so that the decoding is not pruned away.
            result["size"] = tf.size(image)
        return result

    decoded = examples(source, share).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return source.noting_labels(decoded.ignore_errors().batch(_BATCH)).prefetch(2)


def _reason(source: Source, index: int) -> str:
    """Why an image cannot be read, in one line."""
    if isinstance(source, StreamSource):
        return source.reason(index)
    contents = b""
    try:
        contents = source.fetch(tf.constant(index)).numpy()
        source.decode(tf.constant(contents))
    except (tf.errors.OpError, ValueError) as error:
        known = unreadable_reason(contents) if isinstance(contents, bytes) else ""
        return cause(error) if isinstance(error, tf.errors.NotFoundError) else known or cause(error)
    return "could not be read at first"


def require_share(sources: Sequence[Source], max_corrupt_share: float) -> None:
    """Raises `UserError` if more than a share of all images cannot be read, or none of a part."""
    bad = [item for source in sources for item in source.unreadable]
    count = sum(source.num_examples for source in sources)
    few = "; ".join(f"{item.name} ({item.reason})" for item in bad[:3])
    for source in sources:
        if len(source.unreadable) == source.num_examples:
            raise UserError(
                f"--dataset={source.name}: expected readable images. Received: "
                f"{source.num_examples} of which none can be decoded, such as {few}."
            )
    if len(bad) > max_corrupt_share * count:
        raise UserError(
            f"--dataset={sources[0].name}: expected at most "
            f"--max_corrupt_share={max_corrupt_share} unreadable images. Received: {len(bad)} of "
            f"{count}, such as {few}. Mend or remove them, or raise --max_corrupt_share."
        )
