"""Numbers that follow from the data: what is refused for few images names settings that fit."""

import re

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.command_line import parse_flagfile
from ifnd_tf.config import flagfile
from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.errors import UserError
from ifnd_tf.stages import auto, sizes
from tests import tiny


def noise(count: int) -> ArraySource:
    return ArraySource("mine", np.zeros([count, 16, 16, 3], np.uint8), np.full(count, -1))


def fit(source, *flags):
    """The settings of the preset photos, once they fit the images; raises as a run would."""
    config = parse_flagfile(
        str(flagfile.preset_path("photos")), "--image_size=16", "--init_from=", *flags
    )
    config = auto.decided(config, source)
    sizes.steps_per_epoch(config, source)
    sizes.batch_norm_policy(config, tf.distribute.get_strategy())
    return config, sizes.num_clusters(config, source.num_examples)


@pytest.mark.parametrize(
    ("count", "batch", "clusters"),
    [(2, 2, [2]), (3, 2, [2]), (4, 2, [2]), (8, 2, [2, 4]), (20, 4, [2, 4, 8]),
     (60, 8, [7, 14, 28])],
)  # fmt: skip
def test_few_photos_are_trained_on_with_the_flags_of_the_refusal(count, batch, clusters):
    with pytest.raises(UserError, match=f"at most the {count} training images") as refusal:
        fit(noise(count))
    hint = re.findall(r"--\w+=\w+", str(refusal.value).partition("try ")[2])
    config, levels = fit(noise(count), *hint)
    assert (config.batch_size, levels) == (batch, clusters)
    assert config.queue_size % batch == 0 and config.queue_size <= count


def test_a_single_image_has_no_negatives():
    with pytest.raises(UserError, match="--dataset: expected several .* Received: 1 of mine"):
        fit(noise(1))


@pytest.mark.parametrize(
    ("batch", "splits", "expected"),
    [(64, 4, 4), (64, 8, 8), (8, 8, 4), (4, 4, 2), (2, 4, 1), (6, 4, 2), (10, 8, 2), (9, 9, 3)],
)
def test_automatic_splits_keep_two_images_each(batch, splits, expected):
    config = tiny.config(
        batch_norm="auto", batch_size=batch, queue_size=batch, batch_norm_splits=splits
    )
    policy = sizes.batch_norm_policy(config, tf.distribute.get_strategy())
    assert policy == ("split", expected)


def test_splits_that_do_not_fit_are_answered_with_some_that_do():
    config = tiny.config(batch_norm="split", batch_norm_splits=8, batch_size=12, queue_size=12)
    with pytest.raises(UserError, match="batch of 12 .* Received: 8; try 4"):
        sizes.batch_norm_policy(config, tf.distribute.get_strategy())
