"""The pictures of a run are those of its images, and of what detection found in them."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.report import collect_pictures, pictures
from ifnd_tf.training.callbacks import live_report
from tests import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    data = tiny.splits()
    config = tiny.config(num_clusters="4,8", report_examples=40, report_share=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_report, "FIRST", 0.0)  # else none of a run as short as this
        tiny.train(config, tf.distribute.get_strategy(), path, data)
    return path, data.train, pictures.read(str(path))


def test_pictures_are_the_images(trained):
    _, source, found = trained
    assert len(found.map) == found.searched == 40
    assert found.class_names == [str(i) for i in range(10)]
    for index, picture in found.pictures.items():
        pixels = pictures.decode(picture)
        difference = np.asarray(pixels, int) - np.asarray(source.pixels)[index]
        assert np.abs(difference).mean() < 20  # WebP is not exact
        assert picture.label == source.labels[index]
        assert picture.name.startswith("digits ")


def test_clusters_are_those_of_the_last_refresh(trained):
    path, _, found = trained
    arrays = np.load(path / "detection" / "0001.npz")
    assert (found.epoch, found.refresh) == (2, 1)
    for level, labels in zip(found.clusters, arrays["labels"], strict=True):
        assert sum(c.size for c in level) == (labels >= 0).sum()
        for cluster in level:
            assert set(labels[cluster.most]) == {cluster.number}
            assert cluster.most[0] in found.pictures
    for each in found.removed:
        same = arrays["labels"] == arrays["labels"][:, each.anchor, None]
        assert each.total == (same & (arrays["labels"] >= 0)).any(axis=0).sum() - 1
    assert [p.clusters for p in found.map] == arrays["labels"].T[
        [p.example for p in found.map]
    ].tolist()


def test_the_report_is_there_before_the_run_ends(trained):
    path, _, found = trained
    assert found.projection.startswith("t-SNE")
    text = (path / "report.html").read_text()  # `train.train` itself writes none at the end
    assert "data:image/webp" in text
    assert "the first two principal components" in text  # quick, while training
    assert list((path / "events").glob("projector_config.pbtxt"))


def test_thumbnails_average_whole_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 130, 130, 3), np.uint8)
    small = collect_pictures.thumbnails(tf.constant(images)).numpy()
    assert small.shape == (2, 43, 43, 3)  # 130 / 3, as 64 is the most
    block = images[1, 3:6, 6:9].astype(float).mean(axis=(0, 1))
    assert np.abs(small[1, 1, 2] - block).max() <= 0.5
    assert np.array_equal(
        collect_pictures.thumbnails(tf.constant(images[:, :64, :64])), images[:, :64, :64]
    )
