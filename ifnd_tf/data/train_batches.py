"""Training batches: two random views of each example of a shuffled epoch, without end.

Which examples a step holds, and how they look, depends on the seed and the step alone: any number
of replicas and workers sees the same global batches (`ifnd_tf.data.sharding`), and a run resumes
by its first step. Of streamed sources this holds for the views, not for the order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data import crops, photometric
from ifnd_tf.data.recipes import Augmentation
from ifnd_tf.data.scan import require_readable
from ifnd_tf.data.sharding import Sharding, read_ahead
from ifnd_tf.data.skip_unreadable import skip_unreadable
from ifnd_tf.data.source import Source
from ifnd_tf.data.view_draws import view_draws
from ifnd_tf.distribute import stateless_random
from ifnd_tf.errors import UserError

# Keeps these draws apart from those of the views.
_ORDER = 2

Example = dict[str, tf.Tensor]


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
    plan = _Plan(seed, steps, batch_size, sharding, first_step, weak_keys)
    if source.pixels is not None and max(source.pixels.shape[1:3]) <= image_size:
        views = _crops_in_memory(source, plan, augmentation, image_size)
    else:
        views = _crops_one_by_one(source, plan, augmentation, image_size)

    def finish(example: Example) -> Example:
        flat = tf.reshape(example["images"], [-1, image_size, image_size, 3])
        draws = tf.reshape(example["draws"], [-1, photometric.PHOTOMETRIC_DRAWS])
        flat = photometric.augment(flat, draws, augmentation, static=False)
        finished = tf.reshape(tf.cast(flat, infeed_dtype), example["images"].shape)
        return {"index": example["index"], "images": finished}

    if infeed_dtype != "uint8":
        views = views.map(finish, num_parallel_calls=sharding.ahead)
    return read_ahead(views, sharding)


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


class _Plan(NamedTuple):
    """Which examples an element of this worker holds, and the draws they get."""

    seed: int
    steps: int
    batch_size: int
    sharding: Sharding
    first_step: int
    weak_keys: bool

    @property
    def replica_batch(self) -> int:
        return self.batch_size // self.sharding.replicas

    def epoch(self, element: tf.Tensor) -> tf.Tensor:
        return (self.first_step + element // self.sharding.local) // self.steps

    def places(self, element: tf.Tensor) -> tf.Tensor:
        """int64 [b]: the element's places in its epoch's order."""
        step = self.first_step + element // self.sharding.local
        part = self.sharding.first + element % self.sharding.local
        start = step % self.steps * self.batch_size + part * self.replica_batch
        return start + tf.range(self.replica_batch, dtype=tf.int64)

    def indices(self, element: tf.Tensor, readable: np.ndarray) -> tf.Tensor:
        """int32 [b]: the element's examples, in the order of its epoch's permutation."""
        epoch = tf.cast(self.epoch(element), tf.int32)
        places = tf.random.experimental.index_shuffle(
            self.places(element),
            seed=tf.stack([self.seed & 0x7FFFFFFF, epoch]),
            max_index=len(readable) - 1,
        )
        return tf.gather(readable, places)

    def with_draws(self, element: tf.Tensor, batch: Example) -> Example:
        """Adds both views' draws to a batch `{"index": int32 [b], ...}`."""
        geometric, draws = view_draws(
            self.seed, self.epoch(element), batch["index"], weak_keys=self.weak_keys
        )
        return batch | {"geometric": geometric, "draws": draws}


def _indexed(source: Source, plan: _Plan) -> tf.data.Dataset:
    """Batches `{"index", "geometric", "draws"}` in the order of each epoch's permutation."""
    readable = source.readable

    def identify(element: tf.Tensor) -> Example:
        return plan.with_draws(element, {"index": plan.indices(element, readable)})

    return tf.data.Dataset.counter().map(identify, num_parallel_calls=tf.data.AUTOTUNE)


def _streamed(source: Source, plan: _Plan) -> tf.data.Dataset:
    """The same with "image" (encoded) from this worker's files, shuffled anew in each pass."""
    shard, num_shards = plan.sharding.worker, plan.sharding.workers
    readable = source.mask(source.readable)
    length = int(readable[source.shard_indices(shard, num_shards)].sum())
    if not length:
        raise UserError(
            f"--dataset={source.name}: expected readable images for each of {num_shards} workers. "
            f"Received: none for worker {shard}."
        )
    used = plan.first_step * plan.sharding.local * plan.replica_batch
    first, skip = divmod(used, length)

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
    return batches.enumerate().map(
        lambda element, batch: plan.with_draws(
            element, {"index": batch["index"], "image": batch["image"]}
        ),
        num_parallel_calls=plan.sharding.ahead,
    )


def _crops_in_memory(
    source: Source, plan: _Plan, augmentation: Augmentation, size: int
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

    return _indexed(source, plan).map(cut, num_parallel_calls=plan.sharding.ahead)


def _crops_one_by_one(
    source: Source, plan: _Plan, augmentation: Augmentation, size: int
) -> tf.data.Dataset:
    """Each image fetched, decoded and cropped on its own, in parallel."""
    pixels = source.pixels
    batches = _streamed(source, plan) if source.streamed else _indexed(source, plan)

    def cut(example: Example, real: tf.Tensor) -> Example:
        def both() -> tf.Tensor:
            index, content = example["index"], example.get("image")
            if content is None:
                content = source.fetch(index) if pixels is None else tf.gather(pixels, index)
            draws = example["geometric"]
            return crops.two_views(content, draws, augmentation, size, source.decoding)

        blank = tf.zeros([2, size, size, 3], tf.uint8)
        cropped = tf.ensure_shape(tf.cond(real, both, lambda: blank), blank.shape)
        return {"index": example["index"], "images": cropped, "draws": example["draws"]}

    if pixels is not None:
        views = batches.unbatch().map(
            lambda example: cut(example, tf.constant(True)), num_parallel_calls=tf.data.AUTOTUNE
        )
    else:
        views = skip_unreadable(batches, cut, plan.replica_batch, _note_lost(source, plan))
    return views.batch(plan.replica_batch, drop_remainder=True)


def _note_lost(source: Source, plan: _Plan) -> Callable[[int, int], None]:
    """Makes the `note` of `skip_unreadable`, which tells the source the lost examples."""

    def note(first: int, count: int) -> None:
        for number in range(first, first + count):
            element, row = divmod(number, plan.replica_batch + 1)
            index = -1
            if source.random_access:
                index = int(plan.indices(tf.constant(element, tf.int64), source.readable)[row])
            source.lose(index)

    return note
