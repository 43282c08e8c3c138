"""A peer at work in an environment of its own, so that this project depends on none of them."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-peers"


class Peer:
    """A module as a process that answers calls.

    It stays alive between calls, so that rounds leave imports and preparations out.

    Args:
        module: its name.
        python: the interpreter that runs it.
        package: where the module is.
    """

    def __init__(self, module: str, python: pathlib.Path, package: str = "benchmarks.peers"):
        # A forced kernel of OpenBLAS would slow the peer.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        self._process = subprocess.Popen(
            [str(python), "-m", f"{package}.{module}"],
            cwd=ROOT,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def call(self, function: str, **arguments: Any) -> Any:
        """The result of the peer's function for arguments that JSON can hold.

        Raises:
            RuntimeError: if the process ended; it printed why.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer ended in {function}({arguments})")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


@contextlib.contextmanager
def started(
    module: str, packages: str, environment: pathlib.Path = ENVIRONMENT
) -> Iterator[Peer | None]:
    """The peer while it is needed; or None, and a line that says what installs it."""
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"{packages}: not installed; `make bench-peers` installs them.", file=sys.stderr)
        yield None
        return
    peer = Peer(module, python)
    try:
        yield peer
    finally:
        peer.close()
