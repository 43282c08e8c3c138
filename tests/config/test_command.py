"""The command line for a configuration leads back to it."""

import shlex
import sys

import pytest

from ifnd_tf import command_line
from ifnd_tf.config import Config, flagfile
from ifnd_tf.config.command import command


def arguments(config: Config) -> list[str]:
    program, *rest = shlex.split(command(config))
    assert program == "ifnd"
    return rest


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ifnd"])


@pytest.mark.parametrize("preset", flagfile.presets())
def test_a_preset_and_the_differences_from_it(preset, monkeypatch):
    given = [f"--preset={preset}", "--workdir=runs/it's mine", "--epochs=33", "--noscan_images"]
    config = command_line.parse([*given, "--crop_min_area=0.3", "--warmup_epochs=2"])
    assert config is not None
    found = arguments(config)
    assert command_line.parse(found) == config
    assert len(found) <= len(given) + 2


def test_defaults_need_no_flags():
    assert arguments(Config()) == []


def test_it_is_called_as_the_program_was(monkeypatch, tmp_path):
    (tmp_path / "python").write_text("")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for executable, script, expected in (
        (str(tmp_path / "python"), "main.py", "python main.py"),
        ("/opt/my python", "main.py", "'/opt/my python' main.py"),
        (str(tmp_path / "python"), "/x/ifnd_tf/__main__.py", "python -m ifnd_tf"),
    ):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(sys, "argv", [script])
        assert command(Config(epochs=81)) == f"{expected} --epochs=81"
