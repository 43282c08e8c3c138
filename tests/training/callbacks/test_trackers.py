"""Weights & Biases and MLflow get what the terminal shows; without them a flag says so."""

import sys
import types

import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.training.callbacks import trackers


class Recorder(types.ModuleType):
    """A module that writes down how its functions are called."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return call


@pytest.fixture
def fake(monkeypatch):
    def install(name):
        monkeypatch.setitem(sys.modules, name, Recorder(name))
        return sys.modules[name]

    return install


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_the_way_out(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # import raises
    with pytest.raises(
        UserError, match=f"--{package}: expected the package.*pip install {package}"
    ):
        trackers.installed(package)


def test_wandb_gets_settings_and_every_epoch(fake):
    module = fake("wandb")
    tracking = trackers.wandb("mine", {"seed": 3}, "/run")
    tracking.on_epoch_end(0, {"loss": 2})
    tracking.on_train_end({})
    init, log, finish = module.calls
    assert init == (
        "init", (), {"project": "ifnd_tf", "name": "mine", "config": {"seed": 3}, "dir": "/run"}
    )  # fmt: skip
    assert log == ("log", ({"loss": 2.0},), {"step": 1})
    assert finish[0] == "finish"


def test_mlflow_gets_settings_and_every_epoch(fake):
    module = fake("mlflow")
    tracking = trackers.mlflow("mine", {"seed": 3})
    tracking.on_epoch_end(4, {"loss": 2})
    tracking.on_train_end({})
    assert [name for name, _, _ in module.calls] == [
        "set_experiment", "start_run", "log_params", "log_metrics", "end_run"
    ]  # fmt: skip
    assert module.calls[2][1] == ({"seed": 3},)
    assert module.calls[3][1:] == (({"loss": 2.0},), {"step": 5})


def test_a_tracker_that_does_not_start_says_why_in_a_line(fake, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no server at http://nowhere\nand more")

    monkeypatch.setattr(fake("mlflow"), "set_experiment", refuse, raising=False)
    with pytest.raises(UserError, match="--mlflow: .* no server at http://nowhere Set it up"):
        trackers.mlflow("mine", {})
