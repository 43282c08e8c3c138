"""A command on a terminal, stopped by Ctrl-C before it has anything to keep."""

import os
import pathlib
import pty
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
# Takes the terminal as its own, so that Ctrl-C reaches the command; a shell's background jobs,
# and so the tests there, ignore it otherwise.
ON_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    "seen",
    ["starting TensorFlow ...", pytest.param("finding images ...", marks=pytest.mark.slow)],
)
def test_ctrl_c_ends_in_one_line_and_leaves_nothing(seen, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(8):
        Image.fromarray(np.full([8, 8, 3], i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    terminal, its_end = pty.openpty()
    command = [sys.executable, "-c", ON_TERMINAL, ROOT / "main.py", "--dataset=folder:photos"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True
    )
    os.close(its_end)
    shown = b""
    while seen.encode() not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    while part := _read(terminal):
        shown += part
    assert process.wait() == 130
    os.close(terminal)
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
