"""Data, checkpoints and flagfiles are read and never run. That a whole run opens no connection is
in tests/test_main.py."""

import ast
import io
import os
import pathlib

import numpy as np
import pytest

import main
from ifnd_tf.errors import UserError
from ifnd_tf.report import run_page
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.lock import alone
from tests.report import runs

pytestmark = pytest.mark.faults

ROOT = pathlib.Path(__file__).parents[2]
CODE = [ROOT / "main.py", *sorted((ROOT / "ifnd_tf").rglob("*.py"))]


def test_nothing_here_can_unpickle_or_run_what_it_reads():
    banned = {"pickle", "dill", "joblib", "marshal", "shelve", "subprocess"}
    banned |= {"eval", "exec", "compile", "__import__"}
    # A filter of standard error, whose code is a constant beside it.
    processes = ROOT / "ifnd_tf" / "run" / "image_messages.py"
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            names: set = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module}
            elif isinstance(node, ast.Call):
                names = {getattr(node.func, "id", "")}
                # Keras' files may hold code, which its safe mode, the default, does not run.
                keywords = {word.arg for word in node.keywords}
                assert not keywords & {"allow_pickle", "safe_mode"}, f"{path}, line {node.lineno}"
            allowed = {"subprocess"} if path == processes else set()
            assert not names & banned - allowed, f"{path}, line {node.lineno}"


class Trap:
    """What, unpickled, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_in_a_run_directory_is_refused_unopened(tmp_path):
    path, sprung = tmp_path / "run", tmp_path / "sprung"
    path.mkdir()
    runs.write_records(path)
    packed = io.BytesIO()
    np.savez(packed, labels=np.array([Trap(sprung)], object), confidence=np.zeros(1))
    (path / "detection" / "0002.npz").write_bytes(packed.getvalue())
    with pytest.raises(UserError, match="0002.npz"):
        run_page.write(str(path))
    assert not sprung.exists()
    np.load(io.BytesIO(packed.getvalue()), allow_pickle=True)["labels"]
    assert sprung.exists()  # The trap was real.


def test_a_flagfile_is_text(tmp_path):
    path, sprung = tmp_path / "run.flags", tmp_path / "sprung"
    path.write_text(f"--workdir=$(mkdir {sprung})\n--experiment=`mkdir {sprung}`\n")
    config = main.parse_flagfile(str(path))
    assert config.workdir == f"$(mkdir {sprung})" and not sprung.exists()


def test_a_directory_in_use_is_refused_to_the_second_command(tmp_path, capsys):
    path = tmp_path / "run"
    RunDirectory(str(path), flags={})
    with alone(str(path)):
        assert main.main([f"--workdir={path}", "--mode=train"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and f"held by process {os.getpid()}" in error
    assert error.count("\n") == 1 and not (path / "config.flags").exists()
