"""Detection with the embeddings of a file or of another model, in whole runs."""

import os

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.data.crops import centre_view
from ifnd_tf.data.datasets import Splits
from ifnd_tf.errors import Stopped, UserError
from ifnd_tf.run import pretrained
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import given_rows
from ifnd_tf.stages import train as training
from tests import tiny
from tests.conftest import make_strategy

N, WIDTH = 160, 12
# Labels twice, before the second and the third epoch; then of all images that have a row.
SETTINGS = {"epochs": 3, "acceptance": "linear", "acceptance_start": 0.5, "acceptance_end": 1.0}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Not the checkout, where `make demo` leaves the run that these settings would continue."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def splits():
    return tiny.splits(N)


def values(splits) -> np.ndarray:
    """float32 [N, WIDTH]: a place for each class, and noise."""
    noise = np.random.default_rng(0).normal(size=[N, WIDTH])
    return (np.eye(WIDTH)[splits.train.labels] + 0.05 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def file(splits, tmp_path_factory) -> str:
    """Rows of all images but the first three; the fourth is not finite."""
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    names, rows = [splits.train.describe(i) for i in range(N)], values(splits)
    rows[3, 0] = np.nan
    np.savez(path, path=names[3:], embedding=rows[3:])
    return str(path)


def labels(path, strategy="default", progress=None, data=None, **settings):
    config = tiny.config(**{**SETTINGS, **settings})
    model, run = tiny.train(config, make_strategy(strategy), path, data, progress)
    return model, run


@pytest.mark.slow
def test_detection_clusters_the_rows_of_a_file_and_leaves_others_unlabelled(tmp_path, file, capsys):
    settings = {"detect_with": file, "num_clusters": "10", "epochs": 2, "acceptance_start": 1.0}
    model, run = labels(tmp_path, progress=Progress(), **settings)
    found = model.pseudo_labels.numpy()[0]
    assert np.flatnonzero(found < 0).tolist() == [0, 1, 2, 3]
    # The rows' classes stand apart, unlike the pixels' that a run of an epoch has seen.
    assert run.metrics()[-1]["detection_precision"] > 0.9
    text = capsys.readouterr().out
    assert f"warning: --detect_with={file}: 3 images without a row (digits " in text
    assert f"warning: --detect_with={file}: 1 image with NaN" in text


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_teacher_of_no_weight_is_told(splits, file, weight):
    run = tiny.run(tiny.config(teacher=file, teacher_weight=weight), make_strategy("default"))
    run.splits = splits
    said = training._opening(run, run.starting_model(WIDTH), 0, 1)
    assert (f"--teacher={file} sets no target, since --teacher_weight=0" in said) == (not weight)


@pytest.mark.parametrize("treatment", ["fnd", "eliminate,sce", "none"])
def test_labels_that_no_rule_reads_are_told(splits, treatment):
    run = tiny.run(tiny.config(treatment=treatment), make_strategy("default"))
    run.splits = splits
    said = training._opening(run, run.starting_model(0), 0, 1)
    told = f"--treatment={treatment} reads no labels; --detector=none saves its time" in said
    assert told == (treatment != "eliminate,sce")


class _Stop(tiny.AtStep):
    def __init__(self, step):
        super().__init__(step, self._raise)

    def _raise(self):
        raise Stopped(15)


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_rows_bit_for_bit_and_with_no_others(tmp_path, file):
    both = {"detect_with": file, "teacher": file, "teacher_weight_schedule": "linear"}
    whole, _ = labels(tmp_path / "whole", **both)
    settings = {**both, "checkpoint_steps": 1}
    with pytest.raises(Stopped):
        labels(tmp_path / "broken", progress=_Stop(12), **settings)
    other = tmp_path / "rows.npz"
    with np.load(file) as packed:
        np.savez(other, path=packed["path"], embedding=-packed["embedding"])
    with pytest.raises(UserError, match="--detect_with: expected the embeddings that the run was"):
        labels(tmp_path / "broken", **{**settings, "detect_with": str(other)})
    resumed, _ = labels(tmp_path / "broken", **settings)
    for ours, theirs in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


class _Foreign(tf.Module):
    """Somebody else's model: floats of 4 pixels a side in, a map out."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, name="pixels")])
    def look(self, pixels):
        assert pixels.shape[1] == 4
        return {"features": tf.reshape(pixels, [-1, 1, 1, 48])}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")])
    def broken(self, pixels):
        return {"features": tf.reduce_mean(pixels, [1, 2]) / 0.0}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")])
    def same(self, pixels):
        return {"features": tf.ones_like(pixels)[:, 0, 0]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    module = _Foreign()
    path = str(tmp_path_factory.mktemp("foreign") / "model")
    signatures = {"serving_default": module.look, "broken": module.broken, "same": module.same}
    tf.saved_model.save(module, path, signatures=signatures)
    return path


def find(model, splits, strategy="default", **settings):
    run = tiny.run(tiny.config(detect_with=model, **settings), make_strategy(strategy))
    run.splits = splits
    return given_rows.find(run)["detect_with"]


@pytest.mark.distribution
def test_the_rows_of_a_saved_model_are_its_features_of_images_of_its_size(model, splits):
    seen = centre_view(splits.train.pixels, 4).numpy().reshape(N, -1).astype(np.float32)
    expected = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    expected -= expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for strategy in ("default", "mirrored-2"):
        found = find(model, splits, strategy)
        np.testing.assert_allclose(found.points, expected, atol=1e-5)
        assert found.identity and not found.notes


def test_a_path_from_the_home_folder_is_the_same_model(model, splits, monkeypatch):
    monkeypatch.setenv("HOME", os.path.dirname(model))
    found, expected = find("~/model", splits), find(model, splits)
    np.testing.assert_array_equal(found.points, expected.points)
    assert found.identity == expected.identity
    pretrained.check_saved_model("~/model")


def test_a_saved_models_width_and_time_are_known_without_a_pass(model, splits, monkeypatch):
    run = tiny.run(tiny.config(teacher=model), make_strategy("default"))
    run.splits = splits
    monkeypatch.setattr(given_rows, "Embedder", None)
    found = given_rows.check(run)["teacher"]
    assert found.width == 48 and 0 < found.seconds < 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"saved_model_signature": "embed"}, "--saved_model_signature: expected one that .* has"),
        ({"saved_model_output": "pooled"}, "--saved_model_output: expected one that .* features"),
        (
            {"saved_model_signature": "broken"},
            "expected finite features that differ. Received: 160 of 160",
        ),
    ],
)
def test_a_saved_model_without_usable_features_is_refused(model, splits, settings, message):
    with pytest.raises(UserError, match=message):
        find(model, splits, **settings)


def test_check_tries_a_saved_model_on_images(model, splits):
    def check(data, **settings):
        run = tiny.run(tiny.config(detect_with=model, **settings), make_strategy("default"))
        run.splits = data
        return given_rows.check(run)["detect_with"].width

    received = "finite features that differ. Received: 32 of 32 images with NaN"
    for signature in ("broken", "same"):
        with pytest.raises(UserError, match=f"--detect_with={model}: expected {received}"):
            check(splits, saved_model_signature=signature)
    few = Splits(splits.train.subset([0]), None)  # fewer than a batch, and none to differ from
    assert check(few, saved_model_signature="same") == 3 and check(few) == 48


def test_notes_on_rows_are_said_once_and_kept_for_the_results(splits, file, tmp_path, capsys):
    config = tiny.config(detect_with=file, teacher=file, workdir=str(tmp_path))
    run = tiny.run(config, make_strategy("default"), Progress())
    run.splits = splits
    given_rows.check(run)
    given_rows.find(run)
    found = run.unused(splits)["data_notes"]
    assert {note["kind"]: note["number"] for note in found} == {"no_row": 3, "unusable_row": 1}
    assert all(note["text"].startswith(f"--detect_with and --teacher={file}: ") for note in found)
    assert capsys.readouterr().out.count("warning: ") == len(found)
