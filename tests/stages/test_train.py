"""Whole runs: the same result on any number of replicas, and after an interruption."""

import dataclasses
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.errors import NonFinite, Stopped, UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build, sizes
from tests import tiny
from tests.conftest import make_strategy
from tests.outcomes import SPLIT, alone, assert_same, outcome

# 5 or 6 steps that do not see all 160 images.
KEYS = {"detect_with": "keys", "batch_size": 24, "queue_size": 72}


@pytest.mark.slow
@pytest.mark.distribution
@pytest.mark.parametrize("variant", ["moco-eliminate", "simclr-attract"])
def test_replicas_change_nothing(variant, tmp_path, shared):
    # The other variants: two steps each, in tests/training/test_step_on_replicas.py; SimCLR's kept
    # keys on two workers, in tests/system/test_workers.py; four replicas: below, in a run that
    # continues with another number of them.
    expected = alone(variant, shared)
    assert np.any(expected["pseudo_labels"] >= 0) and expected["masked_shares"][1] > 0
    strategy = make_strategy("mirrored-2")
    assert_same(outcome(variant, strategy, tmp_path / "split", **SPLIT[variant]), expected)


def without_times(path):
    """The records of the run in `path`, but for what depends on the clock."""
    records = RunDirectory(str(path), flags={}, writer=False).metrics()
    timed = ("seconds", "images_per_second")
    return [
        {k: v for k, v in r.items() if not k.startswith(timed) and "_sec" not in k} for r in records
    ]


@pytest.mark.parametrize(
    "variant",
    [
        "moco-eliminate",
        *(pytest.param(f"moco-{n}", marks=pytest.mark.slow) for n in ("keys", "state")),
    ],
)
def test_a_run_stopped_at_any_step_ends_bit_for_bit_the_same(variant, tmp_path):
    # 3 epochs of 5 steps; labels are refreshed before the second, and hold for two epochs, so
    # that step 12 resumes an epoch whose labels and statistics are of a refresh before.
    strategy = make_strategy("default")
    settings = {"epochs": 3, "refresh_epochs": 2, "acceptance": "linear",
                "acceptance_start": 0.5, "acceptance_end": 1.0}  # fmt: skip
    whole = outcome(variant, strategy, tmp_path / "whole", **settings)
    preempted = tiny.AtStep(12, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped) as stopped:
        outcome(variant, strategy, tmp_path / "broken", preempted, **settings)
    assert stopped.value.number == signal.SIGTERM
    assert CheckpointStore(str(tmp_path / "broken" / "checkpoints")).latest() == 12
    resumed = outcome(variant, strategy, tmp_path / "broken", **settings)
    assert without_times(tmp_path / "broken") == without_times(tmp_path / "whole")
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.fixture
def finished(shared, tmp_path):
    """A copy of a finished run of `moco-eliminate`, and its outcome."""
    state = alone("moco-eliminate", shared)
    shutil.copytree(shared / "moco-eliminate", tmp_path / "finished")
    return tmp_path / "finished", state


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished):
    path, state = finished
    again = outcome("moco-eliminate", make_strategy("default"), path)
    np.testing.assert_array_equal(state["encoder"], again["encoder"])
    assert len(again["epochs"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector", ["none", "oracle", pytest.param("random", marks=pytest.mark.slow)]
)
def test_every_detector_trains(detector, tmp_path):
    config = tiny.config(detector=detector, acceptance_end=1.0)
    data = tiny.splits()
    model, run = tiny.train(config, make_strategy("default"), tmp_path, data)
    last = run.metrics()[-1]
    assert np.isfinite(last["loss"])
    if detector == "none":
        assert model.pseudo_labels is None
        assert last["masked_share"] == 0.0
        assert "detection_acceptance_rate" not in last
    elif detector == "oracle":
        np.testing.assert_array_equal(model.pseudo_labels.numpy()[0], data.train.labels)
        assert last["detection_precision"] == last["detection_recall"] == 1.0
        assert run.metrics()[0]["masked_share"] > 0
    else:
        # Permuted labels hit pairs of a class as often as chance, about one in ten.
        assert last["masked_share"] > 0
        assert last["detection_precision"] < 0.25


OPTIONS = {
    "simclr": {
        "detect_with": "keys",
        "framework": "simclr",
        "infeed_dtype": "float32",
        "optimizer": "lars",
        "learning_rate_warmup_epochs": 0.5,
        "rescale_negatives": True,
    },
    "pass": {"acceptance_scope": "cluster"},
    "keys": {
        "detect_with": "keys",
        "batch_norm": "split",
        "batch_norm_splits": 4,
        "precision": "mixed_bfloat16",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["simclr", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pass", "keys"))]
)
def test_options_train_and_detect(name, tmp_path):
    config = tiny.config(**{"batch_norm": "local", "cluster_on": "features", **OPTIONS[name]})
    model, run = tiny.train(config, make_strategy("default"), tmp_path)
    last = run.metrics()[-1]
    assert np.isfinite(last["loss"])
    assert 0.3 < np.mean(model.pseudo_labels.numpy() >= 0) <= 0.55
    assert last["detection_acceptance_rate"] == 0.5
    assert last["seconds_clustering"] > 0


@pytest.mark.slow
def test_images_without_a_key_are_not_accepted(tmp_path):
    config = tiny.config(**KEYS, warmup_epochs=0, acceptance_end=1.0)
    model, run = tiny.train(config, make_strategy("default"), tmp_path)
    first, second = run.metrics()
    assert first["detection_accepted_share"] == first["masked_share"] == 0
    assert second["detection_accepted_share"] == pytest.approx(0.9)
    (labels,) = model.pseudo_labels.numpy()
    assert np.sum(labels >= 0) == 144  # 6 steps of 24 an epoch: 16 of 160 images are left over
    assert len(np.unique(labels[labels >= 0])) == 8


@pytest.mark.slow
def test_detection_is_compared_with_nearest_neighbours(tmp_path):
    config = tiny.config(num_clusters="auto", level_combination="union", acceptance_end=1.0)
    _, run = tiny.train(config, make_strategy("default"), tmp_path)
    first, last = run.metrics()
    assert first["health_effective_rank"] > 1
    # 160 images are fewer than a sample, so its pairs are all pairs.
    assert last["detection_sampled_precision"] == pytest.approx(last["detection_precision"])
    assert 0 < last["detection_neighbour_precision"] <= 1
    assert last["masked_share"] > 0


@pytest.mark.slow
def test_nested_labels_keep_fine_clusters_together(tmp_path):
    config = tiny.config(hierarchy="nested", num_clusters="4,8", acceptance_end=1.0)
    model, _ = tiny.train(config, make_strategy("default"), tmp_path)
    coarse, fine = model.pseudo_labels.numpy()
    for cluster in np.unique(fine[fine >= 0]):
        parents = coarse[(fine == cluster) & (coarse >= 0)]
        assert len(np.unique(parents)) <= 1


@pytest.mark.slow
def test_infeed_of_float32_and_of_uint8_train_alike(tmp_path, shared):
    expected = alone("moco-eliminate", shared)
    found = outcome("moco-eliminate", make_strategy("default"), tmp_path, infeed_dtype="float32")
    np.testing.assert_allclose(found["encoder"], expected["encoder"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"queue_size": 192}, "queue_size: expected at most the 160 training images.*try 160"),
        ({"batch_size": 256, "queue_size": 256}, "batch_size: expected at most the 160"),
        ({"num_clusters": "4,200"}, "at most the number of examples"),
        ({"num_clusters": "1,4"}, "2 or more"),
        ({"backbone": "resnet19"}, "backbone: expected one of"),
        ({"backbone": "keras:Nothing"}, "expected keras: and one of"),
        ({"batch_norm": "split", "batch_norm_splits": 5}, "batch_norm_splits: expected a divisor"),
        ({"batch_norm": "shuffle"}, "at least two replicas"),
        ({"acceptance_end_epoch": 1}, "acceptance_end_epoch: expected 0, or an epoch after"),
        ({"detector": "guess"}, "detector: expected one of"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(overrides, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        tiny.train(tiny.config(**overrides), make_strategy("default"), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.distribution
def test_a_batch_that_the_replicas_do_not_divide_is_refused():
    with pytest.raises(UserError, match="multiple of the 4 replicas.*try 32"):
        sizes.replica_batch(
            dataclasses.replace(tiny.config(), batch_size=30, queue_size=60),
            make_strategy("mirrored-4"),
        )


@pytest.mark.slow
def test_a_diverged_run_names_the_step_and_keeps_the_checkpoint_before(tmp_path):
    config = tiny.config(learning_rate=1e30)
    with pytest.raises(NonFinite, match=r"diverged: at step \d, first in the "):
        tiny.train(config, make_strategy("default"), tmp_path)
    assert CheckpointStore(str(tmp_path / "checkpoints")).steps() == [0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["default", pytest.param("mirrored-2", marks=pytest.mark.slow)]
)
def test_a_gradient_that_is_not_finite_is_named(strategy, tmp_path, monkeypatch):
    def poisoned(self, tape, loss):
        gradients = minimise(self, tape, loss)
        at = self.optimizer.iterations.value == 8
        return [*gradients[:3], tf.where(at, np.inf, gradients[3]), *gradients[4:]]

    minimise = ContrastiveModel.minimise
    monkeypatch.setattr(ContrastiveModel, "minimise", poisoned)
    with pytest.raises(
        NonFinite, match="at step 8, first in the gradient of .*/(gamma|beta|kernel)"
    ):
        config = tiny.config(detector="none", checkpoint_steps=6)
        tiny.train(config, make_strategy(strategy), tmp_path)
    assert CheckpointStore(str(tmp_path / "checkpoints")).latest() == 5


@pytest.mark.slow
def test_a_run_goes_back_and_on_with_other_views(finished, tmp_path, monkeypatch):
    poison = iter([True])

    def asked(self):
        at = int(self.optimizer.iterations.numpy())
        return (at, "a test") if at == 7 and next(poison, False) else None

    monkeypatch.setattr(ContrastiveModel, "nonfinite", asked)
    strategy = make_strategy("default")
    settings = {"on_nonfinite": "rollback", "checkpoint_steps": 6}
    outcome("moco-eliminate", strategy, tmp_path / "back", **settings)
    records, expected = without_times(tmp_path / "back"), without_times(finished[0])
    assert [record["epoch"] for record in records] == [1, 2]
    assert records[0]["loss"] == expected[0]["loss"]
    assert records[1]["loss"] != expected[1]["loss"]


def test_a_checkpoint_of_another_model_is_refused(finished):
    with pytest.raises(UserError, match="checkpoint that fits"):
        tiny.train(tiny.config(width=8, epochs=3), make_strategy("default"), finished[0])


def test_the_seed_decides_the_weights():
    strategy = tf.distribute.get_strategy()

    def first_weights(seed):
        model = build.model(tiny.config(seed=seed), strategy, num_examples=160)
        return model.encoder.get_weights()[0]

    np.testing.assert_array_equal(first_weights(1), first_weights(1))
    assert np.abs(first_weights(1) - first_weights(2)).max() > 0.01


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """A run on 2 replicas stopped after an epoch, what it had then, and what it ends with.

    Refreshed before the first epoch too, so that there are labels to take along.
    """
    path = tmp_path_factory.mktemp("two")
    strategy = make_strategy("mirrored-2")
    settings = {"warmup_epochs": 0}
    stopped = outcome("moco-eliminate", strategy, path / "run", **settings, stop_after_epoch=1)
    assert np.any(stopped["pseudo_labels"] >= 0)
    shutil.copytree(path / "run", path / "stopped")
    return path / "stopped", stopped, outcome("moco-eliminate", strategy, path / "run", **settings)


@pytest.mark.slow
@pytest.mark.distribution
@pytest.mark.faults
@pytest.mark.parametrize("after", ["default", "mirrored-4"])
def test_a_run_goes_on_with_another_number_of_replicas(after, on_two, tmp_path):
    path, stopped, unmoved = on_two
    shutil.copytree(path, tmp_path / "run")
    settings = {"warmup_epochs": 0}
    strategy = make_strategy(after)
    moved = outcome("moco-eliminate", strategy, tmp_path / "run", **settings, stop_after_epoch=1)
    assert moved.keys() == stopped.keys()
    for name, value in stopped.items():
        np.testing.assert_array_equal(moved[name], value, err_msg=name)
    assert_same(outcome("moco-eliminate", strategy, tmp_path / "run", **settings), unmoved)
