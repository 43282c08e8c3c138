"""Every protocol through its flags: few labels, fine-tuning, transfer, SavedModels of others."""

import dataclasses
import json
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import main
from ifnd_tf.data.datasets import Splits, open_splits
from ifnd_tf.errors import UserError
from ifnd_tf.stages import build
from ifnd_tf.stages import evaluate as evaluating
from ifnd_tf.stages.run import Run
from ifnd_tf.stages.train import check_fit
from tests import tiny
from tests.conftest import make_strategy


def evaluate(config, *, transfer_splits=None):
    """Results of an untrained network, which is as good as any to see what is measured."""
    strategy = make_strategy("default")
    network = build.model(config, strategy, num_examples=160).network
    before = network.encoder.get_weights()
    with tempfile.TemporaryDirectory() as path:
        run = tiny.run(dataclasses.replace(config, workdir=path), strategy)
    run.splits, run.transfer_splits = tiny.splits(), transfer_splits
    results = evaluating.measure(run, network)
    for one, other in zip(before, network.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    starts = evaluating.expected(config)
    assert all(any(name.startswith(start) for name in results) for start in starts)
    return results


@pytest.mark.slow
def test_finetuning_starts_anew_on_every_subset(monkeypatch):
    monkeypatch.setattr(evaluating, "finetune_steps", lambda *a, **k: 3)
    config = tiny.config(protocols="finetune", label_shares="10%", label_subsets=2)
    results = evaluate(config)
    assert 0 < results["finetune_10pct_top1"] < 1
    assert "finetune_10pct_top1_std" in results  # of two subsets
    assert "knn_top1" not in results


def test_few_labels_take_the_shares_that_were_asked_for():
    results = evaluate(tiny.config(protocols="few_labels,knn", label_shares="20%,2shot"))
    assert {"linear_20pct_top1", "linear_2shot_top1", "knn_top1"} <= set(results)
    assert "untrained_linear_2shot_top1" in results  # the fewest
    assert "linear_1pct_top1" not in results


def test_transfer_takes_the_settings_of_the_probe():
    config = tiny.config(
        protocols="linear", transfer_dataset="x", linear_solver="sgd", linear_epochs=1,
        linear_learning_rate=0.01, seed=3,
    )  # fmt: skip
    results = evaluate(config, transfer_splits=tiny.splits())
    assert results["transfer_linear_top1"] == results["linear_top1"]


@pytest.mark.slow
def test_transfer_to_images_of_one_label():
    other = open_splits("digits", subset_classes=3)
    config = tiny.config(backbone="resnet_small", protocols="knn", transfer_dataset="x")
    results = evaluate(config, transfer_splits=other)
    # Three classes are easier than ten, even for an untrained encoder.
    assert results["transfer_knn_top1"] > results["knn_top1"]
    assert {"transfer_linear_top1", "transfer_svm_map", "transfer_svm_map_voc07"} <= set(results)


@pytest.mark.slow
def test_transfer_to_images_of_several_labels(tmp_path):
    # Red, green and blue are present or absent, each on its own.
    random = np.random.default_rng(0)
    for name in ("train", "test"):
        lines = []
        for i, present in enumerate(random.random((40, 3)) < 0.5):
            pixels = np.broadcast_to(np.where(present, 200, 20).astype(np.uint8), [8, 8, 3])
            Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}{i}.png")
            named = [c for c, p in zip(("red", "green", "blue"), present, strict=True) if p]
            lines.append(f"{name}{i}.png\t{';'.join(named)}\n")
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    other = open_splits(f"list:{tmp_path}/train.txt", eval_split=f"{tmp_path}/test.txt")
    assert other.train.class_names == ("blue", "green", "red")
    assert np.all(other.train.labels == -1) and other.train.labelled
    config = tiny.config(protocols="knn", transfer_dataset="x", width=16)
    results = evaluate(config, transfer_splits=other)
    assert results["transfer_svm_map_voc07"] > 0.95
    assert "transfer_knn_top1" not in results


class Pixels(tf.Module):
    """Somebody else's encoder, which happens to return the pixels."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def look(self, x):
        return {"out": tf.reshape(x, [-1, 8 * 8 * 3]), "broken": tf.math.log(x[:, 4, 4] - 0.5)}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("foreign"))
    model = Pixels()
    tf.saved_model.save(model, path, signatures={"look": model.look})
    return path


FLAGS = [f"--{name}={value}" for name, value in tiny.SETTINGS.items()]


def test_any_saved_model_is_evaluated_in_a_directory_of_its_own(foreign, tmp_path, capsys):
    arguments = [
        *FLAGS, "--mode=evaluate", "--protocols=knn", f"--saved_model={foreign}",
        "--saved_model_signature=look", "--saved_model_output=out", f"--workdir={tmp_path / 'a'}",
    ]  # fmt: skip
    assert main.main(arguments) == 0
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["knn_top1"] == results["raw_pixel_knn_top1"] > 0.9
    assert "untrained_knn_top1" not in results
    assert (results["data_notes"], results["unreadable_images"]) == ([], 0)
    # Results of another model would be taken for this one's.
    assert main.main([*FLAGS, "--mode=train", f"--workdir={tmp_path / 'a'}"]) == 1
    assert "holds a run with other flags: --saved_model" in capsys.readouterr().err


def test_a_saved_model_without_finite_features_is_named(foreign, tmp_path, capsys):
    arguments = [
        *FLAGS, "--mode=evaluate", "--protocols=knn", f"--saved_model={foreign}",
        "--saved_model_signature=look", "--saved_model_output=broken", f"--workdir={tmp_path}",
    ]  # fmt: skip
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    assert f"--saved_model={foreign}: expected finite features" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--saved_model={foreign}"], "--saved_model_signature: expected one that .* It has: look"),
        (
            ["--saved_model={foreign}", "--saved_model_signature=look"],
            "_output: .* It has: broken, out",
        ),
        (["--saved_model=nowhere"], "--saved_model: expected the directory of a SavedModel"),
        (["--saved_model={foreign}", "--mode=train"], "expected --mode=embed or evaluate"),
        (["--saved_model={foreign}", "--protocols=finetune"], "expected protocols on frozen"),
        (["--label_shares=1%,0.1"], "--label_shares: expected percentages"),
        (["--label_shares=1,none"], "--label_shares: expected percentages"),
        (["--label_shares=0%"], "--label_shares: expected percentages"),
        (["--protocols=few_labels", "--label_shares=100%"], "images of every class .* of class"),
        (["--transfer_dataset=folder:no/such"], "no/such"),
    ],
)
def test_bad_input_is_answered_in_one_line(arguments, message, foreign, tmp_path):
    given = [argument.format(foreign=foreign) for argument in arguments]
    with pytest.raises(UserError, match=message) as error:
        config = main.parse(
            [*FLAGS, "--mode=evaluate", "--protocols=knn", f"--workdir={tmp_path}", *given]
        )
        run = Run(config, make_strategy("default"))
        run.splits = tiny.splits()
        if not config.saved_model:
            check_fit(run)
        evaluating.evaluate(run)
    assert "\n" not in str(error.value)


def unlabelled_run(path, **settings):
    config = tiny.config(mode="evaluate", workdir=str(path), **settings)
    run = tiny.run(config, make_strategy("default"))
    splits = tiny.splits()
    for source in splits:
        source.labels[:] = -1
    run.splits = Splits(*splits)
    return run


def test_without_labels_other_images_are_evaluated_on(tmp_path):
    run = unlabelled_run(tmp_path, transfer_dataset="x")
    run.transfer_splits = open_splits("digits", subset_classes=3)
    check_fit(run)
    network = build.model(run.config, run.strategy, num_examples=160).network
    results = evaluating.measure(run, network)
    assert results["transfer_knn_top1"] > 0.5
    assert all(name.startswith("transfer_") for name in results)


def test_an_evaluation_asked_for_without_labels_is_an_error(tmp_path):
    run = unlabelled_run(tmp_path)
    with pytest.raises(UserError, match="expected labelled images.*digits without"):
        evaluating.evaluate(run)
