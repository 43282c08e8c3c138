"""The smallest network that the tests train."""

from unittest import mock

from ifnd_tf.models import backbones, resnet


def _one_block(*, image_size, depth, width, stem, norm):
    return resnet.resnet(
        image_size=image_size, blocks=[1], width=width, bottleneck=False, stem=stem, norm=norm,
        name="one_block",
    )  # fmt: skip


def in_place_of_small_resnet():
    """A context in which `resnet_small` has all its kinds of layers, and few to trace."""
    return mock.patch.object(backbones, "small_resnet", _one_block)
