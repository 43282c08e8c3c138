"""Advice before a run: what an expert would say of sizes, network, batch, epochs and time."""

import dataclasses
import shlex
import sys

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf import command_line
from ifnd_tf.distribute import strategies
from ifnd_tf.run.progress import duration
from ifnd_tf.stages import auto, check_advice, check_cost
from ifnd_tf.stages.check_cost import StepCost
from tests import tiny

MEASURED = StepCost(1.0, 1.0, 0.1, 0.5, 1 << 20, np.zeros([1, 2, 8, 8, 3]))


@pytest.fixture(autouse=True)
def without_accelerator(monkeypatch):
    monkeypatch.setattr(auto, "has_accelerator", lambda: False)


@pytest.mark.parametrize(
    ("settings", "short", "words"),
    [
        ({"image_size": 16}, 300, "views are 16 pixels wide and the images 300, so detail is lost: "
         "--image_size=64 --stem=stride2"),
        ({"image_size": 64}, 8, "so time is lost: --image_size=16 --stem=cifar"),
        ({"image_size": 64, "backbone": "resnet18", "stem": "imagenet"}, 64, "--stem=stride2"),
        ({"image_size": 128, "backbone": "resnet18", "stem": "cifar"}, 128, "--stem=stride2"),
        ({"image_size": 64, "backbone": "resnet18", "stem": "stride2"}, 300, ""),
        ({"image_size": 224, "backbone": "resnet18", "stem": "imagenet"}, 300, ""),
        ({"image_size": 16}, 8, ""),
        ({"image_size": 32}, 32, ""),
    ],
)  # fmt: skip
def test_views_and_first_layers(settings, short, words):
    found = list(check_advice.views(tiny.config(**settings), short))
    assert len(found) == bool(words) and words in "".join(found)


@pytest.mark.parametrize(
    ("settings", "examples", "steps", "words"),
    [
        ({"backbone": "resnet50", "epochs": 200}, 2000, 30, "large for 2,000 images; resnet18"),
        ({"framework": "simclr", "epochs": 200}, 2000, 30, "negatives, 62 here"),
        ({"epochs": 10}, 2000, 30, "--epochs=34"),
        ({"epochs": 10}, 20, 2, "20 images are few to learn from, however long; an encoder that"),
        ({"batch_size": 64, "learning_rate": 0.06}, 200, 3,
         "--batch_size=32 --learning_rate=0.03 --queue_size=auto"),
        ({"backbone": "resnet18", "epochs": 100}, 2000, 30, ""),
    ],
)  # fmt: skip
def test_network_batch_and_epochs(settings, examples, steps, words):
    found = list(check_advice.training(tiny.config(**settings), examples, steps))
    assert len(found) == bool(words) and words in "".join(found)


def photos(tmp_path, count=24, **flags):
    """A run of the preset on a folder of photos."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, [90, 70, 3], np.uint8)
        (folder / f"{number}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    given = {"workdir": tmp_path / "run", "batch_size": 8, "batch_norm_splits": 2} | flags
    config = command_line.parse(
        ["--preset=photos", f"--dataset=folder:{folder}", "--mode=check"]
        + [f"--{name}={value}" for name, value in given.items()]
    )
    assert config is not None
    return tiny.run(config, tf.distribute.get_strategy())


@pytest.mark.slow
def test_a_slow_run_gets_one_complete_command_that_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ifnd"])
    tried = []

    def measure(config, strategy, source, model, count):
        tried.append((config.backbone, config.image_size, model.encoder.name))
        return MEASURED._replace(step_seconds=0.2, embed_seconds=0.1)

    monkeypatch.setattr(check_cost, "measure_steps", measure)
    run = photos(tmp_path, backbone="resnet18", epochs=4000, warmup_epochs=400, image_size=224)
    (text,) = check_advice.hours(run, MEASURED)
    assert text.startswith("the run takes 4:") and tried == [("resnet_small", 64, "resnet_small")]
    head, line = text.split("\n")
    config = command_line.parse(shlex.split(line)[1:])
    assert config is not None
    assert (config.backbone, config.width, config.image_size) == ("resnet_small", 32, 64)
    assert config.mode == "train,evaluate,export,report" and config.run_path == run.given.run_path
    assert config.dataset == run.given.dataset and config.batch_size == 8
    decided = dataclasses.replace(config, queue_size=8)
    steps = run.steps_per_epoch
    cost = MEASURED._replace(step_seconds=0.2, embed_seconds=0.1)
    seconds = check_cost.run_seconds(decided, run.splits.train, steps, cost)
    assert seconds < 3600 and head.endswith(f"this command takes about {duration(seconds)}:")
    # The warm-up keeps its tenth of the epochs.
    assert config.warmup_epochs == pytest.approx(config.epochs / 10, abs=1)


@pytest.mark.slow
def test_a_small_network_gets_fewer_epochs_and_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(check_cost, "measure_steps", None)
    run = photos(tmp_path, epochs=2000, warmup_epochs=200)
    found = check_advice.faster(run, MEASURED)
    assert found is not None and "--epochs=" in found[0] and "--image_size" not in found[0]
    assert found[1] < 3600


def test_a_run_that_cannot_be_faster_or_need_not_be(tmp_path, monkeypatch):
    run = photos(tmp_path, epochs=300, warmup_epochs=20)
    slow = MEASURED._replace(step_seconds=100.0)
    assert check_advice.faster(run, slow) is None
    assert "without a GPU or TPU" in "".join(check_advice.hours(run, slow))
    assert not list(check_advice.hours(run, MEASURED._replace(step_seconds=0.1)))
    monkeypatch.setattr(auto, "has_accelerator", lambda: True)
    assert not list(check_advice.hours(run, slow))


def test_workers_make_as_many_calls_and_the_slowest_decides():
    """This one has time; another one's time is over after its third call."""
    gathered = []

    def gather(own):
        gathered.append(own)
        return np.stack([own, np.array([len(gathered) > 3])])

    calls = []
    workers = strategies.Workers(0, 2, gather)
    check_cost._mean_seconds(workers, lambda: calls.append(1))
    assert len(calls) == 3


@pytest.mark.slow
def test_the_command_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ifnd"])
    monkeypatch.setattr(check_advice, "_FEWEST_STEPS", 2)
    monkeypatch.setattr(check_advice, "_PLANNED", 1e-3)
    run = photos(tmp_path, epochs=300, warmup_epochs=20, num_clusters="2", width=64)
    found = check_advice.faster(run, MEASURED)
    assert found is not None
    assert command_line.main(shlex.split(found[0])[1:]) == 0
    assert run.directory.results()["epochs"] == 2
