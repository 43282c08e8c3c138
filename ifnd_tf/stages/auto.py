"""`auto`: settings that are chosen by the data, once, when it is open."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.source import Source
from ifnd_tf.data.statistics import image_statistics
from ifnd_tf.run import pretrained

# Sides of views with published recipes, from digits to ImageNet.
_SIDES = (16, 32, 64, 96, 128, 224)
# Images enlarged by more cost time and show nothing new.
_ENLARGED = 1.15
# Most details of a photo are left, at a twelfth of the cost of 224.
SIDE_ON_CPU = 64
# MoCo v2's queue for ImageNet.
_LARGEST_QUEUE = 65536
# Images to measure.
_SAMPLE = 64


def decided(config: Config, train: Source) -> Config:
    """The settings with values for those that are auto.

    Args:
        config: the settings.
        train: the training images, of which a sample is decoded if the size of the views is auto.
    """
    values: dict[str, Any] = {}
    if "image_size" in config.undecided:
        values["image_size"] = image_size(short_side(train), accelerated=has_accelerator())
    start = config.init_from
    if "init_from" in config.undecided:
        start = pretrained.auto_start(config.backbone, values.get("image_size", config.image_size))
        values["init_from"] = start
    if "backbone" in config.undecided:
        values["backbone"] = pretrained.auto_backbone(start)
    if "stem" in config.undecided:
        values["stem"] = stem(values.get("image_size", config.image_size))
    if "queue_size" in config.undecided:
        values["queue_size"] = queue_size(config.batch_size, train.num_examples)
    return dataclasses.replace(config, **values)


def image_size(short: float, *, accelerated: bool) -> int:
    """Side of the views, in pixels: the largest that the images fill.

    Args:
        short: the images' median short side, in pixels.
        accelerated: whether there is a GPU or TPU; a CPU gets no larger views than it can afford.
    """
    most = _ENLARGED * short if accelerated else min(_ENLARGED * short, SIDE_ON_CPU)
    return max((side for side in _SIDES if side <= most), default=_SIDES[0])


def stem(image_size: int) -> str:
    """First layers that leave the stages after them about 32 pixels, or 56 of ImageNet's 224."""
    if image_size <= 32:
        return "cifar"
    return "stride2" if image_size <= 128 else "imagenet"


def queue_size(batch_size: int, num_examples: int) -> int:
    """Q: half of N in whole batches, so that the queue rarely holds an older key of the anchor."""
    most = min(_LARGEST_QUEUE, num_examples // 2)
    return max(1, most // batch_size) * batch_size


def short_side(source: Source) -> float:
    """The median of the images' short sides, in pixels."""
    found = image_statistics(source, _SAMPLE)
    return float(np.median(np.minimum(found.heights, found.widths)))


def has_accelerator() -> bool:
    """Whether TensorFlow computes on a GPU or TPU."""
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
