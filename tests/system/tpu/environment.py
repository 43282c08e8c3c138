"""The two virtual environments of the check, and the processes that run in them.

The wheel that lowers for a TPU and the client that compiles for one pin different
versions of libtpu, so no one environment can hold both. StableHLO text passes between them.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ifnd_tf.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
_LOCATION = re.compile(r" loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)|^#loc.*$|^module @\S+", re.M)


class Environments(NamedTuple):
    """Interpreters of the two environments, and where compiled results are kept.

    Attributes:
        lowering: Python with tensorflow-tpu, from requirements-tpu.txt.
        compiling: Python with jax and libtpu, from tests/system/tpu/requirements-compile.txt.
        cache: folder of results by hash of what was compiled.
    """

    lowering: Path
    compiling: Path
    cache: Path

    @classmethod
    def under(cls, folder: Path) -> "Environments":
        """The environments that `make tpu-check` makes in `folder`.

        Raises:
            UserError: if they are not there.
        """
        found = cls(
            folder / "lower" / "bin" / "python",
            folder / "compile" / "bin" / "python",
            folder / "compiled",
        )
        for python in found[:2]:
            if not python.exists():
                raise UserError(
                    f"expected the environments of the TPU check in {folder}. Received: no "
                    f"{python}; run `make tpu-check`, which makes them."
                )
        return found

    def lower(self, request: dict[str, Any], directory: Path) -> dict[str, Any]:
        """Runs `tests.system.tpu.programs` on `request`; returns its programs by name."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "request.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        self.run(self.lowering, "tests.system.tpu.programs", [str(path), str(directory)])
        return json.loads((directory / "programs.json").read_text(encoding="utf-8"))

    def compile(self, module: Path, kind: str, effort: str) -> dict[str, Any]:
        """Compiles a module, or takes the result of having compiled the same one before."""
        text = _LOCATION.sub("", module.read_text(encoding="utf-8"))
        source = Path(__file__).with_name("compile.py").read_text(encoding="utf-8")
        pins = Path(__file__).with_name("requirements-compile.txt").read_text(encoding="utf-8")
        key = hashlib.sha256("\0".join([text, kind, effort, source, pins]).encode()).hexdigest()
        kept = self.cache / f"{key[:32]}.json"
        if not kept.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as scratch:
                result = Path(scratch) / "result.json"
                arguments = [str(module), kind, effort, str(result)]
                self.run(self.compiling, "tests.system.tpu.compile", arguments)
                # Renamed into place, so that an interrupted run leaves no half result.
                partial = kept.with_suffix(".partial")
                partial.write_text(result.read_text(encoding="utf-8"), encoding="utf-8")
                partial.rename(kept)
        return json.loads(kept.read_text(encoding="utf-8"))

    def run(self, python: Path, module: str, arguments: Sequence[str]) -> str:
        """Runs a module of this project in one of the environments; returns what it printed.

        Raises:
            RuntimeError: if it fails, with the end of what it printed.
        """
        done = subprocess.run(
            [str(python), "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{module} failed ({done.returncode}):\n{done.stdout[-3000:]}")
        return done.stdout
