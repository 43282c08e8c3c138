"""The documentation builds without a warning, says what is true, and its notebook runs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import ifnd_tf
from ifnd_tf.config import help_text

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SETTINGS = {each.name for _, explained in help_text.groups() for each in explained}


@pytest.mark.slow
def test_the_pages_build_and_hold_every_option_and_every_public_name(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    options = (tmp_path / "options" / "index.html").read_text()
    for name in SETTINGS:
        assert f"<code>--{name}</code>" in options, name
    api = (tmp_path / "api" / "index.html").read_text()
    for name in ifnd_tf.__all__:
        assert f">{name}<" in api or f".{name}" in api, name
    assert "Pretrained" in api and "Raises" in api  # docstrings, not names alone


def test_a_warning_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](nowhere.md)")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\nstrict: true\n")
    command = [sys.executable, "-m", "mkdocs", "build"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_no_flag_that_is_not_there(page):
    others = {"flagfile", "help", "helpshort", "json", "short"} | {"accelerator", "zone", "version"}
    others |= {"out", "data", "minutes", "write_data", "kmeans"}  # of lowering and lowered
    others |= {"images", "compile", "knn"}  # of the accelerator and its peer
    named = set(re.findall(r"(?<![\w-])--(\w+)", page.read_text()))
    assert named - SETTINGS <= others if page.stem not in ("tpu", "scaling") else named


def test_the_changelog_and_the_citation_name_this_version():
    assert f"## {ifnd_tf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {ifnd_tf.__version__}" in citation and "2106.03719" in citation


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    scope: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    assert scope["features"].shape == (2, 32) and len(scope["surest"]) == 5
    assert "untrained" in capsys.readouterr().out
