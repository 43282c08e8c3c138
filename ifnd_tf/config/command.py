"""The command line that gives a configuration."""

import dataclasses
import os
import shlex
import shutil
import sys

from ifnd_tf.config import Config, flagfile


def command(config: Config) -> str:
    """The shortest command for these settings, from a preset or from the defaults.

    Flags that may be given several times are left out.
    """
    starts = [("", Config())]
    for name in flagfile.presets():
        starts.append((f"--preset={name}", _preset(name)))
    every = [[start, *_differences(base, config)] for start, base in starts]
    words = min(every, key=lambda words: len(list(filter(None, words))))
    return " ".join([_program(), *map(shlex.quote, filter(None, words))])


def _preset(name: str) -> Config:
    return Config().override(flagfile.preset_flags(name))


def _differences(base: Config, config: Config) -> list[str]:
    """Flags that lead from one configuration to another."""
    found = []
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value != getattr(base, field.name) and not field.metadata["repeats"]:
            found.append(f"--{field.name}={'' if value is None else value}")
    return found


def _program() -> str:
    """The program as it was called."""
    script = sys.argv[0]
    if not script.endswith(".py"):
        return "ifnd"
    found = shutil.which("python")
    python = "python" if found and os.path.abspath(found) == sys.executable else sys.executable
    return f"{shlex.quote(python)} " + (
        "-m ifnd_tf" if script.endswith("__main__.py") else shlex.quote(script)
    )
