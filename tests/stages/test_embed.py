"""What `--mode=embed` writes: features, clusters and duplicates that others read."""

import csv
import io
import os
import pathlib
import textwrap

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.file_source import FileSource
from ifnd_tf.data.source import ArraySource
from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, embed, embed_folders
from tests import tiny
from tests.conftest import make_strategy


@pytest.fixture(scope="module")
def splits() -> Splits:
    images = np.random.default_rng(0).integers(0, 256, [40, 8, 8, 3], np.uint8)
    images[5] = images[1]
    train = ArraySource("mine", images[:30], np.arange(30) % 2, ids=np.arange(30))
    return Splits(train, ArraySource("mine", images[30:], np.full(10, -1), ids=np.arange(30, 40)))


def write(path, splits, strategy=None, progress=None, **settings):
    config = tiny.config(
        batch_size=8, queue_size=16, num_clusters="3,6", workdir=str(path), **settings
    )
    strategy = strategy or tf.distribute.get_strategy()
    model = build.model(config, strategy, num_examples=30)
    embed.write(tiny.run(config, strategy, progress), splits, model.network)
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


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_it_ends_with_what_it_wrote_and_an_example_that_runs(tmp_path, splits, capsys, form):
    stream = io.StringIO()
    progress = Progress(stream)
    folder, _ = write(tmp_path, splits, progress=progress, embed_format=form, embed_diverse=4)
    head, _, example = stream.getvalue().partition("in Python, ")
    for path in folder.iterdir():
        assert f"  {path}  " in head
    exec(textwrap.dedent(example.partition("\n")[2]), {})
    printed = capsys.readouterr().out
    # The first image itself is the most like it.
    assert "mine 0" in printed.splitlines()[0] and printed.count("mine") == 10


def test_a_diverse_subset_is_listed(tmp_path, splits):
    folder, _ = write(tmp_path, splits, embed_diverse=12)
    found = rows(folder / "diverse.csv")
    assert len({row["path"] for row in found}) == 12 and found[0]["distance"] == ""
    distances = [float(row["distance"]) for row in found[1:]]
    assert distances == sorted(distances, reverse=True) and distances[-1] > 0
    every, _ = write(tmp_path, splits, embed_diverse=500)
    assert len({row["path"] for row in rows(every / "diverse.csv")}) == 40


@pytest.fixture
def photos(tmp_path) -> Splits:
    """Eight images, of which some have the same name or one that differs in case only."""
    generator = np.random.default_rng(0)
    names = ["a/x.png", "b/x.png", "b/X.png", "c/x-2.png", "c/y", "d/y", "d/z.png", "e/\udcff.png"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, [9, 9, 3], np.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    return Splits(FileSource("mine", str(tmp_path / "photos"), names, np.full(8, -1), ()), None)


@pytest.mark.parametrize("how", ["link", "copy"])
def test_files_are_sorted_into_a_folder_for_each_cluster(tmp_path, photos, how):
    folder, _ = write(tmp_path / "run", photos, embed_folders=how, embed_clusters=2)
    clusters = [int(row["cluster"]) for row in rows(folder / "clusters.csv")]
    for index, cluster in enumerate(clusters):
        source = photos.train.path(index)
        content = pathlib.Path(source).read_bytes()
        inside = (folder / "clusters" / f"{cluster:03d}").iterdir()
        same = [path for path in inside if path.read_bytes() == content]
        assert len(same) == 1 and same[0].is_symlink() == (how == "link")
        assert how == "copy" or os.readlink(same[0]) == source
    assert sum(len(files) for _, _, files in os.walk(folder / "clusters")) == 8


def test_earlier_folders_are_not_overwritten(tmp_path, photos):
    write(tmp_path / "run", photos, embed_folders="link")
    with pytest.raises(UserError, match="--embed_folders=copy: expected no folders of earlier"):
        write(tmp_path / "run", photos, embed_folders="copy")


def test_names_that_clash_are_kept_apart():
    files = ["a/x.png", "b/x.png", "c/X.png", "c/x-2.png", "d/y", "e/y", "f/x.png"]
    found = list(embed_folders._places(files, [0, 0, 0, 0, 0, 0, 1000]))
    assert found == [
        "0000/x.png", "0000/x-2.png", "0000/X-3.png", "0000/x-2-2.png", "0000/y", "0000/y-2",
        "1000/x.png",
    ]  # fmt: skip


def test_images_without_files_cannot_be_sorted(tmp_path, splits):
    with pytest.raises(UserError, match="--embed_folders=link: expected images that are files"):
        write(tmp_path, splits, embed_folders="link")
    remote = Splits(FileSource("far", "gs://bucket", ["a.png"], np.full(1, -1), ()), None)
    with pytest.raises(UserError, match="expected images and --workdir on disks"):
        embed_folders.check("copy", remote, str(tmp_path))
