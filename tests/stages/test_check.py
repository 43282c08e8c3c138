"""The look before a run: what it finds, what it wants changed, and that it leaves no claim."""

import io

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.statistics import image_statistics
from ifnd_tf.errors import UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report.view_pairs import view_pairs
from ifnd_tf.run import machine
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, check, check_cost
from ifnd_tf.stages.check import Findings
from ifnd_tf.stages.run import Run
from tests import tiny

SHORT = {"batch_size": 8, "queue_size": 16, "num_clusters": "2,4"}


def checked_run(path, data=None, **settings) -> tuple[str, str]:
    """What is printed, and the error at the end, if there is one."""
    stream = io.StringIO()
    config = tiny.config(**{**SHORT, **settings}, workdir=str(path), mode="check")
    run = Run(config, tf.distribute.get_strategy(), Progress(stream))
    run.splits = data or tiny.splits()
    try:
        check.check(run)
    except UserError as error:
        return stream.getvalue(), str(error)
    return stream.getvalue(), ""


def unlabelled(size=40):
    pixels = np.random.default_rng(0).integers(0, 256, [24, size, size, 3], np.uint8)
    return Splits(ArraySource("mine", pixels, np.full(24, -1)), None)


@pytest.mark.slow
def test_a_run_that_fits_is_ready_and_nothing_is_claimed(tmp_path):
    text, error = checked_run(tmp_path / "run")
    assert not error and "ready;" in text and "to change" not in text
    for words in ("160 images of digits, 0 (0.0%) unreadable, 10 classes", "8x8 pixels",
                  "brightness", "a step needs", " MiB\n", "images/s: an epoch of 20 steps",
                  "2 epochs", "images/s alone: "):  # fmt: skip
        assert words in text, words
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["check"]
    picture = tf.io.decode_png((tmp_path / "run" / "check" / "views.png").read_bytes())
    assert picture.shape == (2 * (98 + 6), 4 * (2 * 98 + 6), 3)  # 8 pairs, enlarged 12 times
    assert len(np.unique(picture)) > 10


def test_what_does_not_fit_is_listed_with_its_flag(tmp_path):
    text, error = checked_run(
        tmp_path, num_clusters="500", warmup_epochs=2, batch_size=200, queue_size=200
    )
    assert "3 to change" in error and "ready" not in text
    for flag in ("--batch_size", "--num_clusters", "--warmup_epochs"):
        assert f"  - {flag}: expected" in text, flag


def test_a_class_too_small_for_the_evaluation_is_found_before_the_training(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, [40, 8, 8, 3], np.uint8)
    source = ArraySource("mine", pixels, np.array([0] * 39 + [1]), ("many", "one"))
    settings = {"num_clusters": "2", "label_shares": "10%"}
    text, error = checked_run(tmp_path, Splits(source, source), **settings)
    assert "1 to change" in error and "--label_shares: expected at least 2 images" in text
    assert "class 'one'" in text and "--protocols=knn,linear,clustering" in text


def test_a_file_of_embeddings_is_read(tmp_path):
    np.savez(tmp_path / "rows.npz", path=["a.jpg", "b.jpg"], embedding=np.eye(2))
    text, _ = checked_run(tmp_path / "run", detect_with=str(tmp_path / "rows.npz"), epochs=1)
    assert "  - --detect_with=" in text and "expected rows of the images" in text


def test_too_little_memory_or_disk_names_a_smaller_batch(tmp_path, monkeypatch):
    config = tiny.config(**SHORT)
    model = build.model(config, tf.distribute.get_strategy(), num_examples=160)
    room = int(check_cost.needed_bytes(config, model, 5) / 0.9)
    monkeypatch.setattr(machine, "free_memory", lambda: room)
    monkeypatch.setattr(machine, "free_disk", lambda path: 1 << 10)
    text, _ = checked_run(tmp_path)
    assert "--batch_size: expected a step that fits" in text and "try --batch_size=4" in text
    assert "--workdir: expected a disk" in text
    assert "try a smaller --image_size" in check_cost.smaller_batch(config, model, 32, 1 << 10)


@pytest.mark.slow
def test_advice_for_photographs_under_the_digits_settings(tmp_path):
    text, error = checked_run(tmp_path, unlabelled(), dataset="folder:mine")
    assert not error and "ready;" in text
    for words in ("no labels", "--image_size=32", "--augmentation=moco_v2"):
        assert words in text, words


def test_a_slow_input_is_said(tmp_path):
    measured = check_cost.StepCost(1.0, 0.1, 0.095, 0.01, 1 << 20, np.zeros([1, 2, 8, 8, 3]))
    checked = Findings(Progress(io.StringIO()))
    source = tiny.splits().train
    check.check_speed(checked, tiny.config(), source, 5, measured)
    assert "store the images smaller" in checked.advice[0]
    checked = Findings(Progress(io.StringIO()))
    check.check_speed(checked, tiny.config(), source, 5, measured._replace(input_seconds=0.05))
    assert not checked.advice


def test_memory_grows_with_the_batch_and_covers_the_variables():
    config = tiny.config()
    model = build.model(config, tf.distribute.get_strategy(), num_examples=160)
    numbers = sum(int(np.prod(v.shape)) for v in model.variables)
    assert check_cost.variable_bytes(model) >= 4 * numbers  # all are of 4 bytes; momentum besides
    few, many = (check_cost.needed_bytes(config, model, rows) for rows in (8, 16))
    assert check_cost.variable_bytes(model) < few < many


def test_image_statistics_are_those_of_the_pixels():
    gray = np.full([3, 4, 5, 3], 51, np.uint8)
    gray[2, 0, 0] = [0, 255, 0]
    found = image_statistics(ArraySource("gray", gray, np.full(3, -1)))
    assert (found.heights == 4).all() and (found.widths == 5).all()
    np.testing.assert_allclose(found.mean, gray.reshape(-1, 3).mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(found.spread, gray.reshape(-1, 3).std(0) / 255, rtol=1e-6)
    assert (found.gray_share, found.copies) == (pytest.approx(2 / 3), 1)


def test_view_pairs_are_the_views_beside_each_other():
    white, black = (np.full([96, 96, 3], v) for v in ((1 - 0.485) / 0.229 + 9, -9.0))
    picture = view_pairs(np.stack([[white, black]]), columns=1)
    assert picture.shape == (98 + 6, 2 * 98 + 6, 3)
    assert (picture[52, 52] == 255).all() and (picture[52, 150] == 0).all()


def test_the_trial_has_the_teacher_of_the_run(tmp_path, monkeypatch):
    np.savez(tmp_path / "rows.npz", index=np.arange(160), embedding=np.eye(160, 6) + 0.1)
    rows = str(tmp_path / "rows.npz")
    taught = []

    def step(iterator):
        taught.append(next(iterator)["teacher"])
        return {"loss": 0.0}

    def make_train_function(model):
        assert model.teacher_queue.shape == (16, 6)
        return step

    monkeypatch.setattr(ContrastiveModel, "make_train_function", make_train_function)
    text, error = checked_run(tmp_path / "run", teacher=rows, detect_with=rows)
    assert not error and len(taught) > 1 and taught[0].shape == (8, 6)
    np.testing.assert_allclose(tf.norm(tf.cast(taught[0], tf.float32), axis=1), 1.0, atol=0.01)
    assert "a refresh's embedding" not in text  # it needs no pass over the images
