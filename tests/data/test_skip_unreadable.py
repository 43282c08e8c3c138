"""Images that turn unreadable while training."""

import shutil
import time

import pytest
import tensorflow as tf

from ifnd_tf.data import recipes, train_batches
from ifnd_tf.data.folder import open_folder
from ifnd_tf.data.scan import scan
from ifnd_tf.data.skip_unreadable import UNREADABLE

pytestmark = pytest.mark.faults


@pytest.fixture
def source(class_folders):
    """30 files that could all be read when they were scanned."""
    root = str(class_folders)
    source = open_folder("folder", root, ".")[0]
    scan(source, cache_megabytes=0)
    assert not source.unreadable
    return source


def steps(source, count, batch_size=6):
    batches = train_batches.training_batches(
        source, augmentation=recipes.recipe("moco_v2"), image_size=8, batch_size=batch_size, seed=3
    )
    return list(batches.take(count).as_numpy_iterator())


@pytest.mark.slow
def test_a_lost_image_is_replaced_in_its_place_and_named(source):
    before = steps(source, 10)
    lost = int(before[1]["index"][2])
    path = source.describe(lost)
    with open(path, "wb") as file:
        file.write(b"gone")
    after = steps(source, 10)
    for old, new in zip(before, after, strict=True):
        for place, index in enumerate(old["index"]):
            if index != lost:
                assert new["index"][place] == index
                assert (new["images"][place] == old["images"][place]).all()
            else:
                assert new["index"][place] != lost
    assert [bad.name for bad in source.lost.values()] == [path]


@pytest.mark.slow
def test_a_folder_that_vanished_is_an_error_and_no_hang(source, class_folders):
    shutil.rmtree(class_folders)
    with pytest.raises(tf.errors.InvalidArgumentError, match=UNREADABLE):
        steps(source, 1)
    assert len(source.lost) == 30


@pytest.mark.slow
def test_a_slow_folder_delays_and_changes_nothing(source, monkeypatch):
    expected = steps(source, 5)
    fetch, waits = source.fetch, []

    def slow(index):
        def wait(i):
            waits.append(i)
            time.sleep(0.05 if i % 2 else 0)
            return i

        return fetch(tf.ensure_shape(tf.numpy_function(wait, [index], tf.int32), []))

    monkeypatch.setattr(source, "fetch", slow)
    found = steps(source, 5)
    assert len(waits) >= 30 and not source.lost
    for one, other in zip(found, expected, strict=True):
        assert (one["index"] == other["index"]).all() and (one["images"] == other["images"]).all()
