"""Two run directories: 'equal', or the first difference."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from tests.system.faults.equality import first_difference

pytestmark = pytest.mark.faults


def make(path, weight=1.0, loss=0.5, label=3, seconds=1.0):
    (path / "detection").mkdir(parents=True)
    store = CheckpointStore(str(path / "checkpoints"))
    checkpoint = tf.train.Checkpoint(w=tf.Variable([0.0, weight]))
    notes = {"callbacks": {"records": [{"loss": loss, "epoch_seconds": seconds}]}}
    snapshot = Snapshot.take(7, checkpoint, notes)
    store.write(snapshot)
    snapshot.drop()
    (path / "metrics.jsonl").write_text(json.dumps({"loss": loss, "seconds_embedding": seconds}))
    np.savez(path / "detection" / "0001.npz", labels=np.array([1, label]))
    return path


def test_equal_runs_differ_in_their_times_only(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other", seconds=9.0)
    assert first_difference(str(one), str(other)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": np.nextafter(np.float32(1), np.float32(2))}, "w/.ATTRIBUTES.* first at 1"),
        ({"loss": 0.5000000001}, "records.*loss: 0.5 and 0.5000000001"),
        ({"label": 4}, "0001.npz: labels: 1 of 2 numbers"),
    ],
)
def test_the_first_difference_is_named(change, words, tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other", **change)
    found = first_difference(str(one), str(other))
    assert found is not None and re.search(words, found), found


def test_a_missing_refresh_is_a_difference(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    shutil.rmtree(other / "detection")
    assert "detection: files" in (first_difference(str(one), str(other)) or "")
