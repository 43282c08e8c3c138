"""Damaged and random input of every kind: an answer or a `UserError`, never another exception."""

import contextlib
import io
import os
import pathlib
import shutil

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import main
from ifnd_tf.data.datasets import open_splits
from ifnd_tf.errors import UserError
from ifnd_tf.report import run_page
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import watch
from tests.damage import damage, fuzz, spoil
from tests.report import runs

pytestmark = pytest.mark.faults


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
NAMES = st.sampled_from(["a.png", "b.png", "../a.png", "/etc/passwd", "a.png/", "~", "", "."])


@pytest.mark.slow
@given(st.lists(st.tuples(st.one_of(NAMES, TEXT), TEXT), max_size=6), st.booleans(), st.booleans())
@fuzz(60)
def test_lists(tmp_path_factory, lines, tabs, rooted):
    folder = tmp_path_factory.mktemp("list")
    (folder / "a.png").write_bytes(b"")
    text = "\n".join(f"{path}{chr(9) if tabs else ' '}{label}" for path, label in lines)
    (folder / "list.txt").write_text(text)
    with contextlib.suppress(UserError):
        root = str(folder) if rooted else ""
        train, _ = open_splits(f"list:{folder / 'list.txt'}", data_root=root)
        names = [os.path.realpath(train.describe(i)) for i in range(train.num_examples)]
        assert not rooted or all(name.startswith(str(folder.resolve())) for name in names)


@given(st.binary(max_size=60))
@fuzz(60)
def test_lists_of_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        open_splits(f"list:{path}")


FLAGS = st.one_of(
    st.binary(max_size=40),
    st.tuples(
        st.sampled_from(["epochs", "seed", "mode", "dataset", "variants", "flagfile", "help", "x"]),
        st.sampled_from(["=", " ", "", "=="]),
        st.one_of(TEXT.map(str.encode), st.sampled_from([b"1", b"-1", b"nan", b"1e99", b"ITSELF"])),
    ).map(lambda parts: b"--" + parts[0].encode() + parts[1].encode() + parts[2]),
)


@given(st.lists(FLAGS, max_size=5))
@fuzz(150)
def test_flagfiles(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("flags") / "run.flags"
    path.write_bytes(b"\n".join(lines).replace(b"ITSELF", str(path).encode()))
    said = io.StringIO()
    with (
        contextlib.suppress(UserError),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        main.parse([f"--flagfile={path}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run directory with every file that a report reads."""
    path = tmp_path_factory.mktemp("finished")
    runs.write_records(path)
    runs.write_pictures(path, num_examples=40)
    run = RunDirectory(str(path), flags={"experiment": "tiny"})
    run.write_unreadable([(3, "a/3.jpg", "cut off")])
    run.write_status("running", "epoch 1/3")
    return path


@pytest.mark.slow
@given(st.integers(0, 99), damage())
@fuzz(12)
def test_run_directories(finished, tmp_path_factory, number, what):
    path = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(finished, path)
    found = files(path)
    spoil(found[number % len(found)], *what)
    for use in (
        lambda: RunDirectory(str(path), flags={"experiment": "tiny"}).metrics(),
        lambda: RunDirectory(str(path), flags={}).write_results({"knn_top1": 0.5}),
        lambda: run_page.write(str(path)),
        lambda: watch.watch(str(path), Console(file=io.StringIO())),
    ):
        with contextlib.suppress(UserError):
            use()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two checkpoints, and the variables that they hold."""
    folder = tmp_path_factory.mktemp("checkpoints")
    variable = tf.Variable(tf.zeros([50]))
    for step in (1, 2):
        variable.assign(tf.fill([50], float(step)))
        snapshot = Snapshot.take(step, tf.train.Checkpoint(v=variable), {"step": step})
        CheckpointStore(str(folder)).write(snapshot)
        snapshot.drop()
    return folder, variable


@given(st.integers(0, 99), damage(), damage())
@fuzz(80)
def test_checkpoints(checkpoints, tmp_path_factory, number, first, second):
    """What is restored is one of the two, whole; with both damaged, an error."""
    folder, variable = checkpoints
    path = pathlib.Path(tmp_path_factory.mktemp("run")) / "checkpoints"
    shutil.copytree(folder, path)
    found = files(path)
    for each, what in zip((number, number + len(found) // 2), (first, second), strict=True):
        spoil(found[each % len(found)], *what)
    store = CheckpointStore(str(path))
    with contextlib.suppress(UserError):
        step = store.latest()
        if step is not None:
            tf.train.Checkpoint(v=variable).read(store.prefix(step)).assert_consumed()
            assert store.notes(step) == {"step": step}
            assert (variable.numpy() == step).all()
