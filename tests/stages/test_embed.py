"""What `--mode=embed` writes: features, clusters and duplicates that others read."""

import csv

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import ArraySource
from ifnd_tf.stages import build, embed
from tests import tiny
from tests.conftest import make_strategy


@pytest.fixture(scope="module")
def splits() -> Splits:
    images = np.random.default_rng(0).integers(0, 256, [40, 8, 8, 3], np.uint8)
    images[5] = images[1]
    train = ArraySource("mine", images[:30], np.arange(30) % 2, ids=np.arange(30))
    return Splits(train, ArraySource("mine", images[30:], np.full(10, -1), ids=np.arange(30, 40)))


def write(path, splits, strategy=None, **settings):
    config = tiny.config(
        batch_size=8, queue_size=16, num_clusters="3,6", workdir=str(path), **settings
    )
    strategy = strategy or tf.distribute.get_strategy()
    model = build.model(config, strategy, num_examples=30)
    embed.write(tiny.run(config, strategy), splits, model.network)
    return path / "embeddings", model


def rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_image_has_its_row_cluster_and_confidence(tmp_path, splits):
    folder, model = write(tmp_path, splits)
    with np.load(folder / "embeddings.npz") as packed:
        table = dict(packed)
    assert table["path"].tolist() == [f"mine {i}" for i in range(40)]
    assert table["split"].tolist() == ["train"] * 30 + ["evaluation"] * 10
    assert table["label"].tolist() == [i % 2 for i in range(30)] + [-1] * 10
    np.testing.assert_allclose(np.linalg.norm(table["embedding"], axis=1), 1, rtol=1e-5)
    expected = model.network.inference(splits.evaluation.pixels)
    np.testing.assert_allclose(table["features"][30:], expected["features"], rtol=1e-4, atol=1e-5)
    clusters = rows(folder / "clusters.csv")
    assert [row["path"] for row in clusters] == table["path"].tolist()
    sizes = np.bincount([int(row["cluster"]) for row in clusters], minlength=3)
    assert len(sizes) == 3 and sizes.tolist() == sorted(sizes, reverse=True) and sizes.min() > 0
    assert all(0 < float(row["confidence"]) <= 1 for row in clusters)
    exact = [row for row in rows(folder / "duplicates.csv") if row["kind"] == "exact"]
    assert [(row["path"], row["duplicate_of"]) for row in exact] == [("mine 5", "mine 1")]


@pytest.mark.distribution
def test_replicas_write_the_same(tmp_path, splits):
    folder, _ = write(tmp_path / "one", splits)
    other, _ = write(tmp_path / "two", splits, make_strategy("mirrored-2"))
    for name in ("clusters.csv", "duplicates.csv"):
        for found, expected in zip(rows(other / name), rows(folder / name), strict=True):
            assert found.keys() == expected.keys()
            for column, value in expected.items():
                same = pytest.approx(float(value), abs=1e-4) if "." in value else value
                assert (float(found[column]) if "." in value else found[column]) == same
    with np.load(folder / "embeddings.npz") as one, np.load(other / "embeddings.npz") as two:
        np.testing.assert_allclose(two["embedding"], one["embedding"], atol=1e-5)


def test_parquet_holds_the_same_and_clusters_can_be_asked_for(tmp_path, splits):
    folder, _ = write(tmp_path / "npz", splits)
    other, _ = write(tmp_path / "parquet", splits, embed_format="parquet", embed_clusters=5)
    table = pyarrow.parquet.read_table(other / "embeddings.parquet")
    with np.load(folder / "embeddings.npz") as packed:
        arrays = dict(packed)
    assert table.column_names == list(arrays.keys())
    np.testing.assert_array_equal(np.array(table["features"].to_pylist()), arrays["features"])
    assert len({row["cluster"] for row in rows(other / "clusters.csv")}) == 5
