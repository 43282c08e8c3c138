"""What --init_from and --backbone name, before TensorFlow is imported."""

import zipfile

import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.run import pretrained


@pytest.fixture
def folder(tmp_path):
    """One of each kind."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.flags").write_text("--backbone=resnet18\n")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.flags").write_text("--backbone=resnet18\n")
    for name, file in (("saved", "saved_model.pb"), ("preset", "config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    with zipfile.ZipFile(tmp_path / "whole.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "torn.keras").write_bytes(b"PK")
    (tmp_path / "whole.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "page.h5").write_text("<html>")
    (tmp_path / "model.pt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("run", "run"), ("saved", "saved_model"), ("preset", "preset"), ("whole.keras", "keras"),
     ("whole.weights.h5", "weights")],
)  # fmt: skip
def test_a_path_has_a_kind(folder, name, kind):
    assert pretrained.kind(str(folder / name)) == kind


@pytest.mark.parametrize(
    ("name", "backbone", "message"),
    [
        ("rum", "resnet18", "not there. Did you mean .*run?"),
        ("model.pt", "resnet18", "none of these"),
        ("torn.keras", "resnet18", "whole .keras file"),
        ("page.h5", "resnet18", "whole HDF5 file"),
        ("begun", "resnet18", "run with a checkpoint"),
        ("preset", "resnet18", "--backbone=hub:.*preset"),
        ("run", "hub:nothing", "vit_SIZE_patchN"),
    ],
)
def test_what_cannot_be_a_start_is_refused(folder, name, backbone, message):
    with pytest.raises(UserError, match=message):
        pretrained.check(str(folder / name), backbone, str(folder / "new"))


def test_a_run_does_not_start_from_itself(folder):
    with pytest.raises(UserError, match="another directory than the run's own"):
        pretrained.check(str(folder / "run"), "resnet18", str(folder / "." / "run"))


@pytest.mark.parametrize("backbone", ["resnet18", "hub:vit_tiny_patch8"])
def test_imagenet_is_for_networks_of_keras(backbone, monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: "installed")
    with pytest.raises(UserError, match="expected --backbone=keras:NAME"):
        pretrained.check("imagenet", backbone, "runs/new")


def test_a_transformer_without_keras_hub_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .ifnd-tf\[hub\]"):
        pretrained.check("", "hub:vit_tiny_patch8", "runs/new")


def test_auto_takes_the_weights_in_keras_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert pretrained.auto_start("auto", 64) == ""
    assert pretrained.auto_backbone("") == "resnet_small"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnetb0_notop.h5").touch()
    assert pretrained.auto_start("auto", 64) == "imagenet"
    assert pretrained.auto_start("auto", 16) == ""  # too small for it
    assert pretrained.auto_start("resnet18", 64) == ""
    assert pretrained.auto_backbone("imagenet") == "keras:EfficientNetB0"


def test_auto_takes_the_network_of_a_run(folder):
    assert pretrained.auto_backbone(str(folder / "run")) == "resnet18"
