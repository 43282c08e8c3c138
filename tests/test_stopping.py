"""A command on a terminal, stopped by Ctrl-C before it has anything to keep."""

import os
import pathlib
import pty
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    "seen",
    ["starting TensorFlow ...", pytest.param("finding images ...", marks=pytest.mark.slow)],
)
def test_ctrl_c_ends_in_one_line_and_leaves_nothing(seen, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(8):
        Image.fromarray(np.full([8, 8, 3], i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        command = [sys.executable, str(ROOT / "main.py"), "--dataset=folder:photos"]
        os.execv(sys.executable, command)
    shown = b""
    while seen.encode() not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    while part := _read(terminal):
        shown += part
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    assert lines[-1] == "" and len(lines) == 2
    assert lines[0].rpartition("\r")[2] == "stopped; the same command begins again"
    assert not (tmp_path / "runs" / "photos").exists()


def _read(terminal: int) -> bytes:
    """What the terminal shows next; empty when the command has ended."""
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""
