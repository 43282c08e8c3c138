"""Encoders by name: sizes known from torchvision, shapes, and where batch norm is ours."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.config import model as settings
from ifnd_tf.errors import UserError
from ifnd_tf.models import backbones, resnet
from ifnd_tf.models.batch_norm import BatchNorm
from ifnd_tf.models.network import Network, dtype_policy, projector


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    [
        # torchvision's totals less the classifier of (features + 1) * 1000.
        ("resnet18", 11_689_512 - 513_000, 512),
        pytest.param("resnet34", 21_797_672 - 513_000, 512, marks=pytest.mark.slow),
        ("resnet50", 25_557_032 - 2_049_000, 2048),
        pytest.param("resnet101", 44_549_160 - 2_049_000, 2048, marks=pytest.mark.slow),
    ],
)
def test_imagenet_nets_have_torchvisions_size(name, parameters, features):
    model = backbones.build(name, image_size=64, stem="imagenet")
    assert trainable(model) == parameters
    assert model.output_shape == (None, features)


@pytest.mark.parametrize(("depth", "width", "stem"), [(8, 16, "cifar"), (14, 8, "stride2")])
def test_small_nets(depth, width, stem):
    model = backbones.build("resnet_small", image_size=32, depth=depth, width=width, stem=stem)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    # 6n + 1 layers, for the classifier is not there, and two projections of the shortcut.
    assert len(convolutions) == depth - 1 + 2
    assert model.output_shape == (None, 4 * width)
    assert model.get_layer("features").input.shape[1] == (8 if stem == "cifar" else 4)


def test_the_tiny_net_is_one_block_of_the_small_one():
    tiny, small = (
        backbones.build(name, image_size=16, width=4, stem="cifar")
        for name in ("resnet_tiny", "resnet_small")
    )
    assert tiny.output_shape == (None, 4)
    assert [v.path for v in tiny.variables] == [v.path for v in small.variables][
        : len(tiny.variables)
    ]


def test_the_flag_knows_the_networks_that_there_are():
    assert set(settings.RESNETS) == set(resnet.RESNETS)


def test_a_shortcut_is_the_strided_convolution_of_the_paper():
    model = backbones.build("resnet_small", image_size=16, width=16)
    layer = model.get_layer("stage2_block1_conv0")
    x = tf.random.stateless_normal([2, 16, 16, 16], seed=[1, 2])
    expected = tf.nn.conv2d(x, layer.kernel.value, strides=2, padding="VALID")
    np.testing.assert_allclose(layer(x[:, ::2, ::2]), expected, atol=1e-5)
    assert layer.strides == (1, 1)


def test_a_network_of_keras_applications_gets_our_batch_norm():
    model = backbones.build("keras:MobileNetV2", image_size=32, batch_norm="sync")
    norms = [layer for layer in model.layers if "BatchNorm" in type(layer).__name__]
    assert norms and all(isinstance(layer, BatchNorm) for layer in norms)
    assert {layer.policy for layer in norms} == {"sync"}
    assert model(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 1280)


@pytest.mark.parametrize(
    ("name", "message"),
    [("vgg", "expected one of"), ("keras:nothing", "expected keras: and one of"),
     ("keras:InceptionV3", "--image_size: expected"), ("resnet_small", "depth: expected 6n \\+ 2")],
)  # fmt: skip
def test_what_cannot_be_built_is_explained(name, message):
    with pytest.raises(UserError, match=message):
        backbones.build(name, image_size=32, depth=9)


def test_features_are_float32_at_any_precision():
    with dtype_policy("mixed_bfloat16"):
        images = keras.Input([8, 8, 3])
        features = keras.layers.GlobalAveragePooling2D()(images)  # as keras.applications pool
        network = Network(keras.Model(images, features), projector(3, 3, 3))
    assert network.encoder.output.dtype == "bfloat16"
    assert network.features(np.zeros([1, 8, 8, 3], np.uint8)).dtype == tf.float32


def test_the_projector_has_two_layers_and_ends_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        head = projector(12, hidden_dim=0, projection_dim=5)
    finally:
        keras.config.set_dtype_policy(before)
    assert trainable(head) == 12 * 12 + 12 + 12 * 5 + 5
    assert head(np.ones((1, 12), np.float32)).dtype == tf.float32
