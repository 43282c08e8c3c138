"""Checkpoints on disk: whole or not there, damage found and named, old ones removed."""

import hashlib
import json

import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run.checkpoints import MANIFEST, CheckpointStore, Snapshot

pytestmark = pytest.mark.faults


@pytest.fixture
def variable():
    return tf.Variable([0.0, 0.0])


@pytest.fixture
def store(tmp_path, variable):
    """Checkpoints of the steps 10, 20 and 30, whose variable holds its step."""
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    for step in (10, 20, 30):
        write(store, variable, step)
    return store


def write(store, variable, step):
    variable.assign([step, step])
    snapshot = Snapshot.take(step, tf.train.Checkpoint(v=variable), {"step": step})
    try:
        store.write(snapshot)
    finally:
        snapshot.drop()
    assert not tf.io.gfile.exists(snapshot.folder)


def files(store, step):
    return sorted(name for name in tf.io.gfile.listdir(store.path(step)) if name != MANIFEST)


def test_what_was_written_comes_back(store, variable):
    assert store.steps() == [10, 20, 30]
    for step in (10, 30):
        tf.train.Checkpoint(v=variable).read(store.prefix(step)).assert_consumed()
        assert variable.numpy().tolist() == [step, step]
        assert store.notes(step) == {"step": step}
    assert len(files(store, 30)) == 3


def spoil(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "flipped", "emptied", "lost"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(store, tmp_path, number, how):
    path = tmp_path / "checkpoints" / "0000000030" / files(store, 30)[number]
    spoil(path, how)
    said = []
    assert store.latest(said.append) == 20
    assert len(said) == 1 and str(path) in said[0]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"files": 3}', b'{"files": {"notes.json": 1}}']
)
def test_a_damaged_manifest_is_named(store, tmp_path, content):
    path = tmp_path / "checkpoints" / "0000000030" / MANIFEST
    path.write_bytes(content)
    said = []
    assert store.latest(said.append) == 20
    assert "0000000030" in said[0]


def test_no_undamaged_checkpoint_is_an_error_and_not_a_new_start(store, tmp_path):
    for step in (10, 20, 30):
        spoil(tmp_path / "checkpoints" / f"{step:010d}" / "notes.json", "cut")
    with pytest.raises(UserError, match="all damaged.*0000000030/notes.json has"):
        store.latest()


def test_what_a_killed_process_left_does_not_count_and_is_removed(store, tmp_path):
    spoil(tmp_path / "checkpoints" / "0000000030" / MANIFEST, "lost")
    assert store.latest() == 20
    store.prune(keep=3, newest=20)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "0000000010",
        "0000000020",
    ]


def test_an_empty_folder_is_a_new_start(tmp_path):
    assert CheckpointStore(str(tmp_path / "none")).latest() is None


def test_the_newest_are_kept(store, variable):
    for step in (40, 50, 60, 70):
        write(store, variable, step)
    store.prune(keep=2, newest=70)
    assert store.steps() == [60, 70]
    store.prune(keep=1, newest=70)
    assert store.steps() == [70]


def test_what_was_just_written_is_kept_where_later_steps_are_damaged(store, variable, tmp_path):
    spoil(tmp_path / "checkpoints" / "0000000030" / "notes.json", "cut")
    assert store.latest() == 20
    write(store, variable, 25)
    store.prune(keep=1, newest=25)
    assert store.steps() == [25] and store.latest() == 25


def test_the_manifest_tells_the_size_and_sha256_of_each_file(store, tmp_path):
    folder = tmp_path / "checkpoints" / "0000000020"
    for name, entry in json.loads((folder / MANIFEST).read_text())["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_failed_write_says_so(variable, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected room for a checkpoint.*checkpoints before"):
        write(CheckpointStore(str(tmp_path / "file" / "checkpoints")), variable, 40)
