"""What TensorBoard reads back is what the run showed."""

import io

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig

from ifnd_tf.report import pictures, tensorboard
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.training.callbacks.histograms import DetectionHistograms
from tests.report import runs


@pytest.fixture
def gathered(tmp_path):
    runs.write_records(tmp_path)
    found = runs.write_pictures(tmp_path)
    embedding = np.arange(len(found.map) * 3, dtype=np.float32).reshape(-1, 3)
    tensorboard.write_pictures(str(tmp_path / "events"), found, embedding, step=33)
    return found


def events(path):
    accumulator = EventAccumulator(str(path / "events"), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def test_galleries_hold_the_pictures(tmp_path, gathered):
    found = events(tmp_path)
    tags = found.Tags()["tensors"]
    assert set(tags) == {
        "clusters/level 1", "clusters/level 2", "removed negatives (anchor first)",
        "nearest neighbours (query first)",
    }  # fmt: skip
    (event,) = found.Tensors("nearest neighbours (query first)")
    assert event.step == 33
    encoded = tf.make_ndarray(event.tensor_proto)[2]
    sheet = np.asarray(Image.open(io.BytesIO(encoded)))
    side = 16 + 6
    assert sheet.shape == (4 * side, 6 * side, 3)
    query = gathered.neighbours[0].query
    picture = pictures.decode(gathered.pictures[query])
    assert np.array_equal(sheet[3 : side - 3, 3 : side - 3], picture)


def test_removed_images_are_framed_by_right_and_wrong(tmp_path, gathered):
    (event,) = events(tmp_path).Tensors("removed negatives (anchor first)")
    sheet = np.asarray(Image.open(io.BytesIO(tf.make_ndarray(event.tensor_proto)[2])))
    first = gathered.removed[0]
    own = gathered.pictures[first.anchor].label
    assert len(first.shown) > 1
    for place, index in enumerate(first.shown, start=1):
        right = gathered.pictures[index].label == own
        assert tuple(sheet[0, place * 22]) == ((0, 158, 115) if right else (213, 94, 0))


def test_the_projector_gets_vectors_names_and_thumbnails(tmp_path, gathered):
    folder = tmp_path / "events"
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (entry,) = config.embeddings
    vectors = np.loadtxt(folder / entry.tensor_path, delimiter="\t")
    assert vectors.shape == (300, 3) and vectors[1].tolist() == [3, 4, 5]
    header, *rows = (folder / entry.metadata_path).read_text().splitlines()
    assert header.split("\t") == ["image", "class", "cluster, level 1", "cluster, level 2"]
    assert len(rows) == 300 and all(row.count("\t") == 3 for row in rows)  # tabs in names too
    sprite = np.asarray(Image.open(folder / entry.sprite.image_path))
    width, height = entry.sprite.single_image_dim
    place = 25
    y, x = divmod(place, sprite.shape[1] // width)
    index = gathered.map[place].example
    picture = pictures.decode(gathered.pictures[index])
    assert np.array_equal(
        sprite[y * height : (y + 1) * height, x * width : (x + 1) * width], picture
    )


def test_histograms_of_every_refresh(tmp_path):
    run = RunDirectory(str(tmp_path), flags={})
    labels = np.array([[0, 0, 0, 1, -1], [4, 4, -1, -1, -1]], np.int32)
    confidence = np.array([[0.5] * 5, [0.25] * 5], np.float16)
    run.write_detection(1, {}, labels=labels, confidence=confidence)
    histograms = DetectionHistograms(run, steps_per_epoch=10)
    histograms.on_train_begin()
    for epoch in range(3):
        histograms.on_epoch_end(epoch)
    histograms.on_train_end()
    found = events(tmp_path)
    tag = "detection/accepted images of a cluster, level 1"
    (event,) = found.Tensors(tag)  # once, at the end of the epoch that began with the refresh
    assert event.step == 20
    buckets = tf.make_ndarray(event.tensor_proto)
    assert buckets[:, 2].sum() == 2  # clusters 0 and 1
    assert buckets[0, 0] == 1 and buckets[-1, 1] == 3
    assert "detection/confidence, level 2" in found.Tags()["tensors"]
