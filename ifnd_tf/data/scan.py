"""Decodes every image once before training: finds the unreadable ones, and keeps all that fit."""

import statistics
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.image_formats import unreadable_reason
from ifnd_tf.data.kept_images import KeptImages
from ifnd_tf.data.source import Source, Unreadable
from ifnd_tf.data.stream_source import StreamSource
from ifnd_tf.distribute.strategies import ALONE, Workers
from ifnd_tf.errors import UserError, cause
from ifnd_tf.run import machine
from ifnd_tf.run.progress import Count, uncounted

_BATCH = 256
# Examples of a batch that carries their pixels.
_KEPT_BATCH = 32
# Images whose decoded size is measured, to know how many fit in memory.
_MEASURED = 32
# The least share of the images that is worth its memory.
_WORTH_KEEPING = 0.1


def scan(
    source: Source,
    *,
    max_corrupt_share: float = 0.01,
    cache_megabytes: int = 2048,
    view_size: int = 0,
    progress: Count = uncounted,
    workers: Workers = ALONE,
) -> None:
    """Decodes each image once, in parallel; fills `source.unreadable` and perhaps `source.kept`.

    Images stay decoded in memory, as many as fit; on several workers, and of a source without
    random access, all or none. If none, each worker reads a share, and tells the others which
    images it could read.

    Args:
        source: the examples; returned at once if already scanned.
        max_corrupt_share: largest tolerated share of unreadable images, in [0, 1].
        cache_megabytes: memory for decoded images, in 2**20 bytes; 0 keeps none.
        view_size: S of the views for which images are decoded; 0: in full.
        progress: called with the number of images seen and how many will be, now and then.
        workers: the processes that share the work; all must call this at once.

    Raises:
        UserError: if no image is readable, or more than the tolerated share is not.
    """
    if source.scanned:
        return
    count = source.num_examples
    kept = _room_for(source, view_size, cache_megabytes << 20, workers) if cache_megabytes else None
    share = (workers.index, workers.count) if kept is None else (0, 1)
    seen, fits = np.zeros(count, bool), kept is not None
    for batch in _decoded(source, view_size, kept is not None, share):
        index = batch["index"].numpy()
        seen[index] = True
        if kept is not None and fits:
            pixels = batch["pixels"].flat_values.numpy()
            fits = kept.add(index, batch["shape"].numpy(), pixels)
        progress(int(seen.sum()), -(-count // share[1]))
    if share[1] > 1:
        seen = workers.gather(seen.astype(np.int32)).max(axis=0) > 0
    source.unreadable = [
        Unreadable(int(index), source.describe(int(index)), _reason(source, int(index)))
        for index in np.flatnonzero(~seen)
    ]
    source.note_unlabelled([bad.index for bad in source.unreadable])
    require_share([source], max_corrupt_share)
    if kept is not None and (source.random_access or kept.holds_all(source.readable)):
        source.keep(kept)
    source.scanned = True


def require_readable(source: Source) -> None:
    """Raises `UserError` if none of the first examples can be read.

    For sources that are not scanned: dropping every image of a stream without end would hang.
    """
    if not _first_sizes(source, 1):
        raise none_readable(source, f"the first {min(_BATCH, source.num_examples)}")


def none_readable(source: Source, tried: str) -> UserError:
    """The error of a source of which no image among those tried can be read."""
    return UserError(
        f"--dataset={source.name}: expected readable images. Received: none among {tried}, such as "
        f"{source.describe(0)}."
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


def _room_for(
    source: Source, view_size: int, most_bytes: int, workers: Workers
) -> KeptImages | None:
    """Room for the decoded images; None where too few of them would fit."""
    sizes = _first_sizes(source, _MEASURED, view_size)
    if not sizes:
        return None
    count = source.num_examples
    partly = source.random_access and workers.count == 1
    if partly:  # all or none must be decided alike on all workers and after a restart
        most_bytes = min(most_bytes, machine.free_memory() // 2)
    if most_bytes < (_WORTH_KEEPING if partly else 1.0) * count * statistics.mean(sizes):
        return None
    least_side = source.decoding.least_side(view_size)
    return KeptImages(count, view_size, least_side, min(most_bytes, count * max(sizes)))


def _first_sizes(source: Source, most: int, view_size: int = 0) -> list[int]:
    """Decoded bytes of up to `most` readable images among the first."""
    first = examples(source).take(_BATCH)
    sizes = first.map(lambda each: tf.size(source.decode(each["image"], view_size)))
    return [int(size) for size in sizes.ignore_errors().take(most)]


def _decoded(
    source: Source, view_size: int, with_pixels: bool, share: tuple[int, int]
) -> tf.data.Dataset:
    """Batches of the readable images' indices and shapes, perhaps with their pixels."""

    def decode(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = source.decode(example["image"], view_size)
        result = {"index": example["index"], "label": example["label"]}
        result["shape"] = tf.shape(image)[:2]  # needs the pixels, so decoding is not pruned away
        return result | ({"pixels": tf.reshape(image, [-1])} if with_pixels else {})

    decoded = examples(source, share).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    decoded = decoded.ignore_errors()
    batches = decoded.ragged_batch(_KEPT_BATCH) if with_pixels else decoded.batch(_BATCH)
    return source.noting_labels(batches).prefetch(2)


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
