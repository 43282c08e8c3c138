"""Training batches: two random views of each example of a shuffled epoch, without end.

Which examples a step holds, and how they look, depends on the seed and the step alone: any number
of replicas and workers sees the same global batches (`ifnd_tf.data.sharding`), and a run resumes
by its first step. Of streamed sources this holds for the views, not for the order.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from ifnd_tf.data import crops, photometric
from ifnd_tf.data.batch_plan import BatchPlan, Example
from ifnd_tf.data.cut_images import cut_boxes, cut_one, whole_batch, with_boxes
from ifnd_tf.data.data_service import made_elsewhere
from ifnd_tf.data.kept_images import KeptImages
from ifnd_tf.data.recipes import Augmentation
from ifnd_tf.data.scan import require_readable
from ifnd_tf.data.service_reader import DataService
from ifnd_tf.data.sharding import Sharding, in_order, read_ahead
from ifnd_tf.data.skip_unreadable import skip_unreadable
from ifnd_tf.data.source import Source
from ifnd_tf.distribute import stateless_random
from ifnd_tf.errors import UserError

# Steps that may come early from a tf.data service, which makes about five batches per worker.
_EARLY_STEPS = 32
# Keeps these draws apart from those of the views.
_ORDER = 2


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Whole global batches that the readable examples make; the rest sits out the epoch."""
    return len(source.readable) // batch_size


@tf.autograph.experimental.do_not_convert  # holds for the functions that it maps, too
def training_batches(
    source: Source,
    *,
    augmentation: Augmentation,
    image_size: int,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    infeed_dtype: str = "uint8",
    weak_keys: bool = False,
    input_context: tf.distribute.InputContext | None = None,
    data_service: DataService | None = None,
) -> tf.data.Dataset:
    """Two views of every example of a shuffled epoch, without end.

    Args:
        source: the examples.
        augmentation: how views are made.
        image_size: S, side of the views in pixels.
        batch_size: B, examples of a step over all replicas.
        seed: fixes order and views.
        first_step: step at which a resumed run continues.
        infeed_dtype: uint8: crops and the draws that `photometric.augment` wants, for the
            device to finish; float32 or bfloat16: finished views.
        weak_keys: see `view_draws`.
        input_context: of this worker, from `distribute_datasets_from_function`; None: one replica.
        data_service: makes the same batches on other machines; for image files only.

    Returns:
        Elements `{"index": int32 [b], "images": uint8 [b, 2, S, S, 3], "draws": float32
        [b, 2, PHOTOMETRIC_DRAWS]}`, or with a float dtype `{"index", "images"}` with
        normalised images of that dtype; b = B / replicas; all shapes static.

    Raises:
        UserError: if replicas do not divide B, B exceeds the readable examples, or nothing of a
            source that was not scanned can be read.
    """
    sharding = Sharding.of(input_context)
    steps = _checked_steps(source, batch_size, sharding.replicas)
    plan = BatchPlan(seed, steps, batch_size, sharding, weak_keys)
    views = functools.partial(_views, source, plan, augmentation, image_size)
    finish = functools.partial(_finished, augmentation, infeed_dtype, sharding.ahead)
    first = first_step * sharding.local
    if data_service is None or not data_service.address:
        return read_ahead(finish(views(first)), sharding)
    whole = functools.partial(whole_batch, source, plan, augmentation, image_size)
    batches = made_elsewhere(
        data_service,
        lambda element: finish(whole(element)),
        lambda element: in_order(finish(views(element))),
        first=first,
        most_early=_EARLY_STEPS * sharding.local,
    )
    return read_ahead(batches, sharding)


def _views(
    source: Source, plan: BatchPlan, augmentation: Augmentation, size: int, first: int | tf.Tensor
) -> tf.data.Dataset:
    """The batches from element `first` on, as cut."""
    if source.pixels is not None and max(source.pixels.shape[1:3]) <= size:
        return _crops_in_memory(source, plan, augmentation, size, first)
    kept = source.kept_for(size)
    if kept is not None and source.in_memory(size):
        return _crops_of_kept(kept, source, plan, augmentation, size, first)
    return _crops_one_by_one(source, plan, augmentation, size, first)


def _finished(
    augmentation: Augmentation, infeed_dtype: str, ahead: int, batches: tf.data.Dataset
) -> tf.data.Dataset:
    """The same batches as the device wants them."""

    def finish(example: Example) -> Example:
        flat = tf.reshape(example["images"], [-1, *example["images"].shape[2:]])
        draws = tf.reshape(example["draws"], [-1, photometric.PHOTOMETRIC_DRAWS])
        flat = photometric.augment(flat, draws, augmentation, static=False)
        finished = tf.reshape(tf.cast(flat, infeed_dtype), example["images"].shape)
        return {"index": example["index"], "images": finished}

    return batches if infeed_dtype == "uint8" else batches.map(finish, num_parallel_calls=ahead)


def _checked_steps(source: Source, batch_size: int, replicas: int) -> int:
    """`steps_per_epoch`, or the `UserError` that `training_batches` raises."""
    if batch_size % replicas:
        raise UserError(
            f"--batch_size: expected a multiple of the {replicas} replicas. Received: {batch_size}."
        )
    steps = steps_per_epoch(source, batch_size)
    if not steps:
        raise UserError(
            f"--batch_size: expected at most the {len(source.readable)} readable training images. "
            f"Received: {batch_size}."
        )
    if not source.scanned:
        require_readable(source)
    return steps


def _streamed(source: Source, plan: BatchPlan, start: int) -> tf.data.Dataset:
    """Batches `{"index", "image" (encoded), "geometric", "draws"}` from element `start` on.

    They come from this worker's files, shuffled anew in each pass.
    """
    shard, num_shards = plan.sharding.worker, plan.sharding.workers
    readable = source.mask(source.readable)
    length = int(readable[source.shard_indices(shard, num_shards)].sum())
    if not length:
        raise UserError(
            f"--dataset={source.name}: expected readable images for each of {num_shards} workers. "
            f"Received: none for worker {shard}."
        )
    first, skip = divmod(start * plan.replica_batch, length)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        drawn = stateless_random.uniform([plan.seed, number, _ORDER], tf.constant(shard), 1)[0]
        return source.stream(
            shard=shard,
            num_shards=num_shards,
            shuffle_seed=tf.cast(drawn * (1 << 24), tf.int64),
            among=readable,
            skip=tf.where(number == first, skip, 0),
        )

    passes = tf.data.Dataset.counter(first).flat_map(one_pass)
    batches = source.noting_labels(passes.batch(plan.replica_batch, drop_remainder=True))
    return batches.enumerate(start).map(
        lambda element, batch: plan.with_draws(
            element, {"index": batch["index"], "image": batch["image"]}
        ),
        num_parallel_calls=plan.sharding.ahead,
    )


def _crops_in_memory(
    source: Source, plan: BatchPlan, augmentation: Augmentation, size: int, first: int | tf.Tensor
) -> tf.data.Dataset:
    """All crops of a batch of decoded images at once."""
    pixels = source.pixels
    assert pixels is not None
    height, width = pixels.shape[1:3]

    def cut(batch: Example) -> Example:
        draws = batch["geometric"]
        boxes = crops.crop_boxes(draws, height, width, augmentation)
        mirrored = crops.flips(draws, augmentation)
        views = crops.cut_views(tf.gather(pixels, batch["index"]), boxes, mirrored, size)
        return {"index": batch["index"], "images": views, "draws": batch["draws"]}

    batches = plan.indexed(source.readable, tf.data.Dataset.counter(first))
    return batches.map(cut, num_parallel_calls=plan.sharding.ahead)


def _crops_of_kept(
    kept: KeptImages,
    source: Source,
    plan: BatchPlan,
    augmentation: Augmentation,
    size: int,
    first: int | tf.Tensor,
) -> tf.data.Dataset:
    """Each decoded image cropped on its own, in parallel, by boxes drawn for the whole batch."""
    batches = plan.indexed(source.readable, tf.data.Dataset.counter(first))
    boxed = batches.map(functools.partial(with_boxes, kept, augmentation)).unbatch()
    views = boxed.map(functools.partial(cut_boxes, kept, size), num_parallel_calls=tf.data.AUTOTUNE)
    return views.batch(plan.replica_batch, drop_remainder=True)


def _crops_one_by_one(
    source: Source, plan: BatchPlan, augmentation: Augmentation, size: int, first: int | tf.Tensor
) -> tf.data.Dataset:
    """Each image fetched, decoded and cropped on its own, in parallel."""
    if source.streamed(size):
        batches = _streamed(source, plan, first)
    else:
        batches = plan.indexed(source.readable, tf.data.Dataset.counter(first))
    cut = functools.partial(cut_one, source, augmentation, size)
    if source.in_memory(size):
        views = batches.unbatch().map(
            lambda example: cut(example, tf.constant(True)), num_parallel_calls=tf.data.AUTOTUNE
        )
    else:
        note = _note_lost(source, plan)
        views = skip_unreadable(batches, cut, plan.replica_batch, note, first)
    return views.batch(plan.replica_batch, drop_remainder=True)


def _note_lost(source: Source, plan: BatchPlan) -> Callable[[int, int], None]:
    """Makes the `note` of `skip_unreadable`, which tells the source the lost examples."""

    def note(first: int, count: int) -> None:
        for number in range(first, first + count):
            # + 1: `skip_unreadable` counts the mark after each batch, too.
            element, row = divmod(number, plan.replica_batch + 1)
            index = -1
            if source.random_access:
                element = tf.constant(element, tf.int64)
                index = int(plan.indices(element, source.readable)[row])
            source.lose(index)

    return note
