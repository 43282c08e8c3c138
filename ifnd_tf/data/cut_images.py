"""Two crops of images that are fetched, decoded or kept in memory one by one."""

import tensorflow as tf

from ifnd_tf.data import crops
from ifnd_tf.data.batch_plan import BatchPlan, Example
from ifnd_tf.data.kept_images import KeptImages
from ifnd_tf.data.recipes import Augmentation
from ifnd_tf.data.source import Source


def cut_one(
    source: Source, augmentation: Augmentation, size: int, example: Example, real: tf.Tensor
) -> Example:
    """The two crops of an example; blank if `real` is false."""

    def views(content: tf.Tensor) -> tf.Tensor:
        return crops.two_views(content, example["geometric"], augmentation, size, source.decoding)

    def both() -> tf.Tensor:
        if "image" in example:
            return views(example["image"])
        index = example["index"]
        return source.from_memory_or(lambda: views(source.fetch(index)), index, size, views)

    blank = tf.zeros([2, size, size, 3], tf.uint8)
    cropped = tf.ensure_shape(tf.cond(real, both, lambda: blank), blank.shape)
    return {"index": example["index"], "images": cropped, "draws": example["draws"]}


def with_boxes(kept: KeptImages, augmentation: Augmentation, batch: Example) -> Example:
    """A batch with the boxes of its crops in place of their draws.

    Drawn at once: image by image, their many small operations take as long as the crops.
    """
    draws, shapes = batch["geometric"], kept.shapes(batch["index"])
    boxes = crops.crop_boxes(draws, shapes[:, :1], shapes[:, 1:], augmentation)
    mirrored = crops.flips(draws, augmentation)
    return {
        "index": batch["index"], "draws": batch["draws"], "boxes": boxes, "mirrored": mirrored
    }  # fmt: skip


def cut_boxes(kept: KeptImages, size: int, example: Example) -> Example:
    """The two crops of an example of `with_boxes`, as `cut_one` makes them."""
    image = kept.image(example["index"])
    views = crops.both_views(image, example["boxes"], example["mirrored"], size)
    return {"index": example["index"], "images": views, "draws": example["draws"]}


def whole_batch(
    source: Source, plan: BatchPlan, augmentation: Augmentation, size: int, element: tf.Tensor
) -> tf.data.Dataset:
    """One batch, with rows of index -1 at its end for images that cannot be read.

    Made of operations that another process can run, unlike `skip_unreadable`.
    """
    rows = plan.replica_batch

    def padded(column: tf.Tensor) -> tf.Tensor:
        lacking = rows - tf.shape(column)[0]
        paddings = [[0, lacking]] + [[0, 0]] * (column.shape.rank - 1)
        blank = -1 if column.dtype == tf.int32 else 0
        whole = tf.pad(column, paddings, constant_values=tf.cast(blank, column.dtype))
        return tf.ensure_shape(whole, [rows, *column.shape[1:]])

    batches = plan.indexed(source.readable, tf.data.Dataset.from_tensors(element))
    views = batches.unbatch().map(
        lambda example: cut_one(source, augmentation, size, example, tf.constant(True)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    read = views.ignore_errors(log_warning=False).batch(rows)
    none = {
        name: tf.zeros([0, *each.shape[1:]], each.dtype) for name, each in read.element_spec.items()
    }
    read = read.concatenate(tf.data.Dataset.from_tensors(none)).take(1)
    return read.map(lambda batch: {name: padded(column) for name, column in batch.items()})
