"""A comparison resumes, repeats nothing, and gives its runs the same start and the same data."""

import json

import numpy as np
import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.stages import compare, compare_runs
from ifnd_tf.stages.run import Run
from tests import tiny
from tests.conftest import make_strategy
from tests.outcomes import alone

RESULTS = {"epochs": 2, "knn_top1": 0.9}


def comparison(path, **overrides) -> Run:
    settings = {"mode": "compare", "seeds": 1, "protocols": "knn", "workdir": str(path)}
    return tiny.run(tiny.config(**{**settings, **overrides}), make_strategy("default"))


def finished(path, variant, seed, **results):
    """A run directory as any runner leaves it."""
    folder = path / f"{variant}-{seed}"
    folder.mkdir(parents=True)
    flags = {**tiny.SETTINGS, "detector": variant, "seed": seed, "experiment": "another"}
    (folder / "config.flags").write_text("".join(f"--{n}={v}\n" for n, v in flags.items()))
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 2, "loss": 1.0}) + "\n")
    (folder / "results.json").write_text(json.dumps({**RESULTS, **results}))


@pytest.fixture
def no_training(monkeypatch):
    def fail(run):
        raise AssertionError(f"{run.config.run_path} was run again")

    for stage in ("train", "evaluate"):
        monkeypatch.setattr(compare_runs, stage, fail)


def test_complete_runs_of_any_runner_are_only_summarised(tmp_path, no_training):
    for seed in (0, 1):
        finished(tmp_path, "none", seed, knn_top1=0.90 + seed / 100)
        finished(tmp_path, "oracle", seed, knn_top1=0.95 + seed / 100)
    compare.compare(comparison(tmp_path, variants="none,oracle", seeds=2))
    summary = json.loads((tmp_path / "compare.json").read_text())
    oracle = summary["variants"]["oracle"]["metrics"]["knn_top1"]
    assert oracle["mean"] == pytest.approx(0.955)
    assert oracle["difference"]["mean"] == pytest.approx(0.05)


@pytest.mark.parametrize(("results", "protocols"), [({"epochs": 1}, "knn"), ({}, "knn,clustering")])
def test_a_run_that_lacks_epochs_or_a_protocol_is_run(results, protocols, tmp_path, monkeypatch):
    finished(tmp_path, "none", 0, **results)
    run = comparison(tmp_path, protocols=protocols, variants="none")
    trained: list[str] = []
    monkeypatch.setattr(compare_runs, "train", lambda run: trained.append(run.config.run_path))
    monkeypatch.setattr(compare_runs, "evaluate", lambda run: None)
    compare.compare(run)
    assert trained == [str(tmp_path / "none-0")]


def test_runs_with_other_flags_are_refused(tmp_path, no_training):
    finished(tmp_path, "none", 0)
    with pytest.raises(UserError, match="other flags: --epochs"):
        compare.compare(comparison(tmp_path, variants="none", epochs=3))


def test_variants_that_do_not_fit_the_data_are_refused_before_anything_runs(tmp_path, no_training):
    run = comparison(tmp_path, variants="none,ifnd,huge:batch_size=2048;queue_size=2048")
    with pytest.raises(UserError, match="batch_size: expected at most the 1,438"):
        compare.compare(run)
    assert not (tmp_path / "config.flags").exists()  # the mended command may take the directory


def test_a_worker_that_is_not_the_chief_believes_the_chief(tmp_path, monkeypatch):
    """It is done with a run while the chief still writes its results."""
    monkeypatch.setattr(compare_runs, "train", lambda run: None)
    evaluated = []
    monkeypatch.setattr(compare_runs, "evaluate", evaluated.append)
    monkeypatch.setattr(compare_runs, "write_report", lambda run: None)
    run = tiny.run(tiny.config(workdir=str(tmp_path)), make_strategy("default"))
    assert "stopped" in compare_runs.outcome(0, run).text and not evaluated
    run = tiny.run(tiny.config(workdir=str(tmp_path)), make_strategy("default"))
    run.directory.writer = False
    assert "stopped" not in compare_runs.outcome(0, run).text and evaluated == [run]


@pytest.mark.slow
def test_a_failed_run_does_not_stop_the_others(tmp_path, monkeypatch):
    def train(run):
        if run.config.detector == "ifnd":
            raise UserError("diverged")
        run.directory.write_results(RESULTS)
        run.directory.write_metrics([{"epoch": 2, "loss": 1.0}])

    monkeypatch.setattr(compare_runs, "train", train)
    monkeypatch.setattr(compare_runs, "evaluate", lambda run: None)
    with pytest.raises(UserError, match="1 of 3 runs failed; the same .*ifnd-0: diverged"):
        compare.compare(comparison(tmp_path, variants="none,ifnd,oracle"))
    variants = json.loads((tmp_path / "compare.json").read_text())["variants"]
    assert {name: found["seeds"] for name, found in variants.items()} == {
        "none": [0], "ifnd": [], "oracle": [0],
    }  # fmt: skip


@pytest.mark.slow
def test_runs_start_alike_and_go_on_after_a_stop(tmp_path, shared, monkeypatch):
    small = tiny.splits()
    monkeypatch.setattr("ifnd_tf.data.datasets.open_splits", lambda *a, **k: small)
    monkeypatch.setattr(compare_runs, "evaluate", lambda run: run.directory.write_results(RESULTS))
    settings = {"variants": "none,ifnd"}
    compare.compare(comparison(tmp_path, **settings, stop_after_epoch=1))
    assert json.loads((tmp_path / "compare.json").read_text())["variants"]["none"]["seeds"] == []
    compare.compare(comparison(tmp_path, **settings))
    losses = {
        name: [json.loads(line)["loss"] for line in text.splitlines()]
        for name in ("none", "ifnd")
        for text in [(tmp_path / f"{name}-0/metrics.jsonl").read_text()]
    }
    # Nothing is detected in the first epoch, so equal weights, order and views give equal losses.
    np.testing.assert_allclose(losses["none"][0], losses["ifnd"][0], rtol=1e-6)
    assert abs(losses["none"][1] - losses["ifnd"][1]) > 1e-4
    # A run alone is the same run.
    expected = alone("moco-eliminate", shared)["losses"]
    np.testing.assert_allclose(losses["ifnd"], expected, rtol=1e-6)
