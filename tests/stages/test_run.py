"""Evaluation and export of one checkpoint, under every strategy."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf import command_line
from ifnd_tf.data.contents import same_data
from ifnd_tf.data.datasets import open_splits
from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages.evaluate import evaluate
from ifnd_tf.stages.export import export_model
from tests import tiny
from tests.conftest import make_strategy
from tests.outcomes import alone

SHARED = ("knn_top1", "untrained_knn_top1", "raw_pixel_knn_top1", "health_embedding_std")


def evaluated(config, strategy):
    """Results, and what the exported encoder makes of some images."""
    run = tiny.run(config, strategy)
    run.splits = tiny.splits()
    evaluate(run)
    export_model(run)
    results = RunDirectory(config.workdir, flags={}, writer=False).results()
    encoder = tf.saved_model.load(f"{config.workdir}/saved_model").signatures["serving_default"]
    images = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), np.uint8)
    return results, encoder(images=tf.constant(images))


@pytest.mark.slow
@pytest.mark.distribution
def test_evaluation_and_export_do_not_depend_on_replicas(shared, tmp_path):
    # Embedding on two replicas is tested by itself, and writing what they embed.
    alone("moco-eliminate", shared)
    shutil.copytree(shared / "moco-eliminate", tmp_path / "run")
    config = tiny.config(workdir=str(tmp_path / "run"), protocols="knn")
    expected, features = evaluated(config, make_strategy("default"))
    found, same = evaluated(config, make_strategy("mirrored-2"))
    for name in SHARED:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    for name, value in features.items():
        np.testing.assert_array_equal(same[name], value, err_msg=name)


@pytest.fixture
def photos(tmp_path):
    """Two class folders of 24 images, and a file that is none."""
    folder = tmp_path / "photos"
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for i in range(24):
            pixels = np.random.default_rng(i).integers(0, 256, [8, 8, 3], np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.slow
@pytest.mark.cases
def test_a_run_goes_on_with_the_data_it_was_begun_with_alone(photos, tmp_path):
    config = tiny.config(
        dataset=f"folder:{photos}", workdir=str(tmp_path / "run"), batch_size=16, queue_size=32
    )
    stream = io.StringIO()
    run = tiny.run(config, make_strategy("default"), Progress(stream))
    run.directory.write("data.tsv.gz", run.splits.train.contents.packed)
    assert "note: 1 file not read: 1 .txt\n" in stream.getvalue()
    checkpoint = same_data("photos", run.splits.train.contents).get_state()
    _ = tiny.run(config, make_strategy("default")).splits  # the same: continues

    # The number of images stays: without names nothing would be noticed.
    (photos / "a" / "03.png").rename(photos / "b" / "new.png")
    with pytest.raises(UserError) as caught:
        _ = tiny.run(config, make_strategy("default")).splits
    message = str(caught.value)
    assert "1 added (b/new.png); 1 removed (a/03.png)" in message and "--workdir" in message
    now = open_splits(f"folder:{photos}").train.contents
    with pytest.raises(UserError, match="the data that the checkpoint was trained on"):
        same_data("photos", now).set_state(checkpoint)


@pytest.mark.slow
@pytest.mark.cases
def test_a_run_inside_its_data_goes_on_and_its_stages_find_it(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    flags = [f"--{name}={value}" for name, value in tiny.SETTINGS.items()]
    flags += ["--batch_size=16", "--queue_size=16", "--workdir=runs/x", "--report_examples=20",
              "--protocols=knn"]  # fmt: skip
    for epochs in ("--stop_after_epoch=1", "--stop_after_epoch=2"):
        assert command_line.main([*flags, "--dataset=folder:.", epochs, "--mode=train"]) == 0
    for mode in ("evaluate", "embed", "export", "report"):
        assert command_line.main([f"--mode={mode}", "--workdir=runs/x"]) == 0
    results = json.loads((photos / "runs" / "x" / "results.json").read_text())
    assert results["epochs"] == 2 and "knn_top1" in results
    kinds = {note["kind"]: note["number"] for note in results["data_notes"]}
    assert kinds["other_files"] == 1
    table = np.load(photos / "runs" / "x" / "embeddings" / "embeddings.npz")
    assert len(table["path"]) == 48
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_images_are_found_before_they_are_read(photos, tmp_path):
    config = tiny.config(dataset=f"folder:{photos}", workdir=str(tmp_path / "run"))
    stream = io.StringIO()
    run = tiny.run(config, make_strategy("default"), Progress(stream, interval=0))
    with pytest.raises(KeyboardInterrupt), run.in_progress():
        assert run.splits.train.num_examples == 38  # a fifth of each class is held out
        raise KeyboardInterrupt
    shown = [line.rpartition(" ")[0] for line in stream.getvalue().splitlines()]
    assert shown[0] == "finding images" and shown.index("reading images") > 0
    assert not (tmp_path / "run").exists()


def test_flags_that_no_longer_exist_are_named(tmp_path):
    config = tiny.config(workdir=str(tmp_path), seed=3)
    tiny.run(config, make_strategy("default")).directory.claim()
    with (tmp_path / "config.flags").open("a") as file:
        file.write("--checkpoint_share=0.02\n")
    stream = io.StringIO()
    tiny.run(config, make_strategy("default"), Progress(stream))
    assert "no longer exist and are ignored: --checkpoint_share\n" in stream.getvalue()
