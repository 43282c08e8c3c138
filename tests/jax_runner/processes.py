"""Processes that run lowered programs: Python with JAX and without TensorFlow."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# The environment in which the TPU check compiles; `make test` makes it.
JAX = ROOT / ".venv-tpu" / "compile" / "bin" / "python"

needs_jax = pytest.mark.skipif(
    not JAX.exists(), reason=f"expected Python with jax, {JAX}; `make tpu-environments`"
)


def python(*arguments: object, devices: int = 1) -> subprocess.CompletedProcess:
    """Runs a module or file where there is jax and no TensorFlow, on virtual CPU devices."""
    return subprocess.run(
        [str(JAX), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
    )


def run_lowered(folder: pathlib.Path, workdir: pathlib.Path, *flags: object, devices: int = 1):
    """Runs a lowered folder, which holds data.npz, by its own runner."""
    data = (f"--data={folder / 'data.npz'}", f"--workdir={workdir}")
    return python(folder / "run.pyz", folder, *data, *flags, devices=devices)


def refuses(done: subprocess.CompletedProcess, *words: str) -> None:
    """One line on standard error, no traceback."""
    assert done.returncode == 1, done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x]
    assert line.startswith("error: "), line
    for word in words:
        assert word in line
