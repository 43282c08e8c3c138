"""The benchmark of faults, with few of each: the command itself."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = pathlib.Path(__file__).parents[2]


def test_a_few_kills_and_files_meet_their_bounds(tmp_path):
    found = tmp_path / "faults.json"
    line = ["-m", "tests.system.faults", "--parts=kills,malformed", "--kills=1", "--files=32"]
    result = subprocess.run(
        [sys.executable, *line, f"--json={found}"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("met   ") == 2
    report = json.loads(found.read_text())
    assert report["kills"]["kills"] == report["kills"]["equal"] == 1
    assert sum(report["kills"]["phases"].values()) == 1
    malformed = report["malformed"]
    assert malformed["files"] == 32 and malformed["kinds"] >= 15
    assert sum(sum(kind.values()) for kind in malformed["by_kind"].values()) == 32
