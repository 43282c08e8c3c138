"""The documentation builds without a warning and says what is true."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import ifnd_tf
from ifnd_tf.config import help_text

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SETTINGS = {each.name for _, explained in help_text.groups() for each in explained}
# Options of other commands that a page shows: absl's, lowering's and jax_runner's, the system
# tests', gcloud's.
OTHERS = {"flagfile", "preset", "help", "helpshort"}
OTHERS |= {"out", "data", "timed", "minutes", "write_data", "kmeans", "json", "devices"}
OTHERS |= {"accelerator", "zone", "version", "command", "effort", "check"}
OTHERS |= {
    "plots",
    "num",
    "clusters",
    "images",
    "compile",
    "knn",
    "student",
    "teacher_test",
    "parts",
    "worker_kills",
}
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def build_pages(root: pathlib.Path, target: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-d", str(target)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs name them."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.slow
def test_the_pages_build_and_hold_every_option_and_every_public_name(tmp_path):
    ran = build_pages(ROOT, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    options = (tmp_path / "options" / "index.html").read_text()
    for name in SETTINGS:
        assert f"<code>--{name}</code>" in options, name
    api = (tmp_path / "api" / "index.html").read_text()
    for name in ifnd_tf.__all__:
        assert f">{name}<" in api or f".{name}" in api, name
    assert "Pretrained" in api and "Raises" in api  # docstrings, not names alone


@pytest.mark.slow
def test_a_link_to_nowhere_fails_the_build(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("experiments", "ifnd_tf"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write("[gone](nowhere.md)")
    ran = build_pages(tmp_path, tmp_path / "site")
    assert ran.returncode != 0
    assert "'nowhere.md'" in ran.stderr and "Aborted with 1 warnings" in ran.stderr + ran.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_no_flag_that_is_not_there(page):
    assert set(re.findall(r"(?<![\w-])--(\w+)", page.read_text())) <= SETTINGS | OTHERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_relative_link_resolves(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_readme_is_short_and_links_every_page():
    readme = ROOT / "README.md"
    assert 8_000 <= len(readme.read_bytes()) <= 10_000
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", readme.read_text()))
    made = {"index.md", "options.md"}  # the site's own first page, and a page filled by its build
    assert linked == {page.name for page in PAGES if page.parent.name == "docs"} - made


def test_every_requirement_says_what_it_is_for():
    for name in REQUIREMENTS:
        lines = [line for line in (ROOT / name).read_text().splitlines() if line[0] != "-"]
        for before, line in itertools.pairwise(lines):
            package = line.partition("==")[0]
            assert line[0] == "#" or before[0] == "#" or before.startswith(package), line


def test_the_changelog_and_the_citation_name_this_version():
    assert f"## {ifnd_tf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {ifnd_tf.__version__}" in citation and "2106.03719" in citation
