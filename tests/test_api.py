"""The library's front door: all that it promises is there."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import ifnd_tf
from tests import tiny


@pytest.mark.parametrize("name", ifnd_tf.__all__)
def test_every_promised_name_is_there_and_documented(name):
    assert getattr(ifnd_tf, name).__doc__
    assert name in dir(ifnd_tf)


def test_kmeans_is_the_module_and_the_others_are_what_their_modules_hold():
    assert callable(ifnd_tf.kmeans.kmeans)
    from ifnd_tf.detection.from_arrays import array_detector

    assert ifnd_tf.array_detector is array_detector


def test_a_preset_trains_what_the_command_line_trains(tmp_path, monkeypatch):
    from ifnd_tf import api, command_line

    (tmp_path / "photos").mkdir()
    started = []
    monkeypatch.setattr(api, "run_stages", started.append)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", None)  # never called
    monkeypatch.setattr(
        api.Run, "trained_model", lambda run: SimpleNamespace(encoder=0, projector=0)
    )
    dataset = f"folder:{tmp_path / 'photos'}"
    ifnd_tf.pretrain(dataset, str(tmp_path / "run"), preset="photos", epochs=3)
    flags = ["--preset=photos", f"--dataset={dataset}", f"--workdir={tmp_path / 'run'}"]
    assert started[0].given == command_line.parse([*flags, "--epochs=3"])
    with pytest.raises(ifnd_tf.UserError, match="Did you mean photos?"):
        ifnd_tf.pretrain(dataset, str(tmp_path / "run"), preset="photo")


@pytest.mark.slow
def test_features_of_a_run_and_of_other_images(tmp_path):
    with pytest.raises(ifnd_tf.UserError, match="expected the directory of a run"):
        ifnd_tf.embed(str(tmp_path / "run"))
    settings = tiny.SETTINGS | {"epochs": 1, "warmup_epochs": 1, "subset_images": 100}
    ifnd_tf.pretrain("digits", str(tmp_path / "run"), mode=["train"], verbose=False, **settings)
    table = ifnd_tf.embed(str(tmp_path / "run"), verbose=False)
    assert len(table["path"]) == 100 + 359 and table["features"].dtype == np.float32
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, [9, 9, 3], np.uint8)
        (tmp_path / "other").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "other" / f"{i:02d}.png")
    other = ifnd_tf.embed(str(tmp_path / "run"), f"folder:{tmp_path / 'other'}", verbose=False)
    assert [path[-6:] for path in other["path"][:2]] == ["00.png", "01.png"]
    np.testing.assert_allclose(np.linalg.norm(other["embedding"], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "2", "a whole number"), ("epochs", 1.5, "a whole number"),
        ("epochs", True, "a whole number"), ("scan_images", "false", "true or false"),
        ("temperature", None, "a number"), ("num_clusters", [5, 10], "text"),
        ("queue_size", "many", "a whole number, or auto"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(tmp_path, name, value, expected):
    with pytest.raises(ifnd_tf.UserError) as raised:
        ifnd_tf.pretrain("digits", tmp_path, **{name: value})
    assert str(raised.value) == f"--{name}: expected {expected}. Received: {value!r}."
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_numbers():
    config = ifnd_tf.config.Config(
        epochs=np.int64(3), temperature=np.float32(0.5), queue_size="auto"
    )
    assert config.as_flags()["epochs"] == "3" and config.as_flags()["temperature"] == "0.5"


def test_a_directory_without_a_run_is_no_encoder(tmp_path):
    with pytest.raises(ifnd_tf.UserError, match="expected the directory of a run.*pretrain first"):
        ifnd_tf.embed(tmp_path)


def test_unknown_names_and_settings_are_refused(tmp_path):
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        ifnd_tf.train  # noqa: B018
    with pytest.raises(ifnd_tf.UserError, match="Did you mean batch_size?"):
        ifnd_tf.pretrain("digits", str(tmp_path), batchsize=3)
