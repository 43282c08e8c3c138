"""Settings that are auto: their values, chosen once and kept by the run directory."""

import dataclasses

import numpy as np
import pytest

import main
from ifnd_tf.command_line import parse_flagfile
from ifnd_tf.config import Config, flagfile
from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.datasets import Splits
from ifnd_tf.distribute import strategies
from ifnd_tf.errors import UserError
from ifnd_tf.stages import auto
from ifnd_tf.stages.train import train
from tests import tiny
from tests.conftest import make_strategy

AUTO = {"image_size": "auto", "stem": "auto", "queue_size": "auto"}


def noise(count: int, height: int, width: int) -> Splits:
    pixels = np.random.default_rng(0).integers(0, 256, [count, height, width, 3], np.uint8)
    return Splits(ArraySource("noise", pixels, np.full(count, -1)), None)


@pytest.mark.parametrize(
    ("short", "accelerated", "expected"),
    [
        (8, True, 16), (28, True, 32), (32, True, 32), (60, True, 64), (96, True, 96),
        (112, True, 128), (200, True, 224), (4000, True, 224), (4000, False, 64), (28, False, 32),
    ],
)  # fmt: skip
def test_views_are_as_large_as_the_images_allow(short, accelerated, expected):
    assert auto.image_size(short, accelerated=accelerated) == expected


@pytest.mark.parametrize(
    ("side", "expected"),
    [(16, "cifar"), (32, "cifar"), (64, "stride2"), (128, "stride2"), (224, "imagenet")],
)
def test_the_stem_follows_the_views(side, expected):
    assert auto.stem(side) == expected


@pytest.mark.parametrize(
    ("batch", "examples", "expected"),
    [(64, 2000, 960), (64, 100, 64), (256, 10**7, 65536), (48, 10**7, 65520)],
)
def test_the_queue_is_half_of_the_images_in_whole_batches(batch, examples, expected):
    assert auto.queue_size(batch, examples) == expected


def test_only_what_is_auto_is_decided_by_the_short_side():
    splits = noise(40, 70, 90)
    config = tiny.config(**AUTO, batch_size=8)
    assert set(config.undecided) == set(AUTO)
    found = auto.decided(config, splits.train)
    assert (found.image_size, found.stem, found.queue_size) == (64, "stride2", 16)
    given = auto.decided(dataclasses.replace(config, image_size=24), splits.train)
    assert (given.image_size, given.stem) == (24, "cifar")
    assert auto.decided(given, splits.train) == given


def test_auto_is_a_word_of_these_flags_and_zero_is_not():
    config = Config().override({"image_size": "auto", "stem": "auto", "queue_size": "auto"})
    assert set(config.undecided) == set(AUTO)
    assert not set(config.as_flags()) & set(AUTO)
    with pytest.raises(UserError, match="--queue_size: expected a value >= 1 or auto. Received: 0"):
        Config(queue_size=0)
    with pytest.raises(UserError, match="--image_size: expected a whole number, or auto"):
        Config().override({"image_size": "large"})
    with pytest.raises(UserError, match="--epochs: expected a whole number. Received: 'auto'"):
        Config().override({"epochs": "auto"})


def test_workers_that_would_decide_differently_are_told(tmp_path, monkeypatch):
    def unlike(strategy):
        return strategies.Workers(0, 2, lambda own: np.stack([own, np.add(own, [1, 0, 0])]))

    monkeypatch.setattr(strategies, "workers", unlike)
    run = tiny.run(tiny.config(**AUTO, workdir=str(tmp_path)), make_strategy("default"))
    run.found = tiny.splits()
    with pytest.raises(UserError, match="different values of --image_size; start every"):
        _ = run.config


@pytest.mark.slow
def test_a_run_keeps_what_auto_chose(tmp_path, monkeypatch):
    config = tiny.config(**AUTO, workdir=str(tmp_path / "run"), mode="train", epochs=2)
    lines: list[str] = []

    def run():
        made = tiny.run(config, make_strategy("default"))
        made.found = made.splits = tiny.splits()
        monkeypatch.setattr(made.progress, "detail", lines.append)
        return made

    train(run())
    flags = run().directory.flags()
    chosen = {"image_size": "16", "stem": "cifar", "queue_size": "64"}
    assert {name: flags[name] for name in AUTO} == chosen
    assert any("image_size 16" in line and "chosen by auto" in line for line in lines)

    # Continued by the same flags, or opened by a stage, it decides nothing anew.
    monkeypatch.setattr(auto, "decided", None)
    train(run())
    assert run().directory.flags() == flags
    stage = main.parse(["--mode=embed", f"--workdir={config.workdir}"])
    assert stage is not None and not stage.undecided and stage.image_size == 16
    other = dataclasses.replace(config, image_size=8)
    with pytest.raises(UserError, match="--image_size .was '16', is '8'"):
        tiny.run(other, make_strategy("default"))


@pytest.mark.parametrize(
    ("cached", "expected"),
    [(False, ("resnet_small", "")), (True, ("keras:EfficientNetB0", "imagenet"))],
)
def test_photos_take_imagenets_weights_where_keras_has_them(
    cached, expected, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if cached:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "efficientnetb0_notop.h5").touch()
    config = parse_flagfile(str(flagfile.preset_path("photos")))
    assert {"backbone", "init_from"} < set(config.undecided)
    found = auto.decided(config, noise(140, 70, 90).train)
    assert (found.backbone, found.init_from) == expected
