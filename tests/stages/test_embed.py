"""What `--mode=embed` writes: features, clusters and duplicates that others read."""

import csv
import io
import json
import os
import pathlib
import textwrap

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.file_source import FileSource
from ifnd_tf.errors import UserError
from ifnd_tf.export import saved_model
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, embed, embed_folders
from ifnd_tf.stages.embed_encoder import EmbedEncoder
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
    encoder = EmbedEncoder(model.network.inference, config.image_size)
    embed.write(tiny.run(config, strategy, progress), splits, encoder)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_parquet_holds_the_same_and_clusters_can_be_asked_for(tmp_path, splits):
    folder, _ = write(tmp_path / "npz", splits)
    other, _ = write(tmp_path / "parquet", splits, embed_format="parquet", embed_clusters=5)
    table = pyarrow.parquet.read_table(other / "embeddings.parquet")
    with np.load(folder / "embeddings.npz") as packed:
        arrays = dict(packed)
    assert table.column_names == list(arrays.keys())
    np.testing.assert_array_equal(np.array(table["features"].to_pylist()), arrays["features"])
    assert len({row["cluster"] for row in rows(other / "clusters.csv")}) == 5


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_file_that_is_gone_is_named_and_leaves_no_folder(tmp_path, photos):
    gone = pathlib.Path(photos.train.path(5))
    gone.unlink()
    images = [(photos.train, np.arange(8))]
    with pytest.raises(UserError, match=f"Received: {gone}, which is gone; bring it back"):
        embed_folders.write("copy", images, np.zeros(8, int), str(tmp_path / "clusters"))
    assert not (tmp_path / "clusters").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_page_shows_clusters_map_copies_and_odd_ones(tmp_path, splits):
    folder, _ = write(tmp_path, splits, embed_diverse=3)
    page = (folder / "index.html").read_text()
    for section in ("clusters", "map", "duplicates", "odd", "diverse"):
        assert f'<section id="{section}"' in page
    assert "40 images, 1 exact and" in page and ">mine 1 <span>1 exact" in page
    assert 'src="http' not in page and 'href="http' not in page
    odd = rows(folder / "odd.csv")
    assert len(odd) == 40 and float(odd[0]["oddness"]) >= float(odd[-1]["oddness"])


class _Foreign(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 5, 5, 3], tf.float32, name="pixels")])
    def look(self, pixels):
        return {"features": tf.reshape(pixels, [-1, 75])}

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 5, 3], tf.float32, name="pixels")])
    def nan(self, pixels):
        return {"features": tf.reshape(pixels, [-1, 75]) / 0.0}

    @tf.function(input_signature=[tf.TensorSpec([None, 5, 5, 3], tf.float32, name="pixels")])
    def same(self, pixels):
        return {"features": tf.ones_like(tf.reshape(pixels, [-1, 75]))}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> str:
    module, path = _Foreign(), str(tmp_path_factory.mktemp("foreign") / "model")
    signatures = {"serving_default": module.look, "nan": module.nan, "same": module.same}
    tf.saved_model.save(module, path, signatures)
    return path


def without_a_run(path, splits, **settings) -> pathlib.Path:
    found = tiny.run(
        tiny.config(workdir=str(path), mode="embed", embed_clusters=3, **settings),
        tf.distribute.get_strategy(),
    )
    found.splits = splits
    embed.write_embeddings(found)
    return path / "embeddings"


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["nan", "same"])
def test_a_saved_model_without_usable_features_is_refused(tmp_path, splits, foreign, signature):
    model = {"saved_model": foreign, "saved_model_signature": signature}
    received = "expected finite features that differ. Received: 40 of 40"
    with pytest.raises(UserError, match=f"--saved_model={foreign}: {received}"):
        without_a_run(tmp_path / "run", splits, **model)
    assert not (tmp_path / "run" / "embeddings" / "clusters.csv").exists()
    if signature == "same":  # of one image there is no other
        one = Splits(splits.train.subset(range(1)), None)
        folder = without_a_run(tmp_path / "one", one, **model)
        assert len(rows(folder / "clusters.csv")) == 1


@pytest.mark.slow
def test_a_saved_model_embeds_without_a_run(tmp_path, splits, foreign):
    folder = without_a_run(tmp_path / "run", splits, saved_model=foreign)
    with np.load(folder / "embeddings.npz") as table:
        features, embedding = table["features"], table["embedding"]
    assert features.shape == (40, 75) and features.min() >= 0 and features.max() <= 1
    np.testing.assert_array_equal(features[5], features[1])
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    exact = [row for row in rows(folder / "duplicates.csv") if row["kind"] == "exact"]
    assert [(row["path"], row["duplicate_of"]) for row in exact] == [("mine 5", "mine 1")]
    assert "--saved_model=" in (tmp_path / "run" / "config.flags").read_text()


@pytest.mark.slow
def test_a_file_of_embeddings_serves_without_a_run(tmp_path, splits):
    folder, _ = write(tmp_path / "first", splits)
    with np.load(folder / "embeddings.npz") as table:
        first = dict(table)
    np.savez(tmp_path / "rows.npz", path=first["path"][1:], embedding=first["features"][1:])
    other = without_a_run(tmp_path / "run", splits, embeddings=str(tmp_path / "rows.npz"))
    with np.load(other / "embeddings.npz") as table:
        assert table["path"].tolist() == first["path"][1:].tolist()
        assert table["split"].tolist() == first["split"][1:].tolist()
        np.testing.assert_array_equal(table["embedding"], table["features"])
    assert len(rows(other / "clusters.csv")) == 39
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    note = {"kind": "no_row", "number": 1}
    assert note.items() <= results["data_notes"][0].items()
    assert (results["embedded_images"], results["embedded_clusters"]) == (39, 3)
    assert results["data_notes"][0]["text"] in (other / "index.html").read_text()
    # It can be given again: the format that --mode=embed writes is read.
    again = without_a_run(tmp_path / "again", splits, embeddings=str(other / "embeddings.npz"))
    assert len(rows(again / "clusters.csv")) == 39


@pytest.mark.slow
def test_the_encoder_of_a_start_embeds_without_training(tmp_path, splits):
    model = build.model(tiny.config(), tf.distribute.get_strategy(), num_examples=160)
    saved_model.export(str(tmp_path / "model"), model.network, 8)
    folder = without_a_run(tmp_path / "run", splits, init_from=str(tmp_path / "model"), seed=5)
    with np.load(folder / "embeddings.npz") as table:
        features = table["features"][:30]
    expected = model.network.features(splits.train.pixels)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
