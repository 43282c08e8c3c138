"""Trials choose the settings that the compared runs have, and are recorded."""

import json

import pytest

from ifnd_tf.errors import NonFinite, UserError
from ifnd_tf.run.records import RunReader
from ifnd_tf.stages import compare, compare_runs
from ifnd_tf.stages.run import Run
from tests import tiny
from tests.conftest import make_strategy

# Of each temperature; the mean ranks are 5/3, 4/3 and 3, as purity does not count.
RESULTS = {
    0.2: {"knn_top1": 0.8, "linear_1pct_top1": 0.5, "cluster_nmi": 0.6, "cluster_purity": 0.9},
    0.1: {"knn_top1": 0.9, "linear_1pct_top1": 0.6, "cluster_nmi": 0.5, "cluster_purity": 0.1},
    0.3: {"knn_top1": 0.7, "linear_1pct_top1": 0.4, "cluster_nmi": 0.4, "cluster_purity": 0.2},
}


@pytest.fixture
def trained(monkeypatch):
    """Runs get the results of their temperature; returns the directories trained, in order."""
    found: list[str] = []

    def train(run):
        found.append(run.config.run_path.split("/")[-1])
        if "bad" in run.config.run_path and run.config.temperature == 0.2:
            raise NonFinite("the loss is not finite")
        run.directory.claim()
        run.directory.write_results({"epochs": 2, **RESULTS[run.config.temperature]})

    monkeypatch.setattr(compare_runs, "train", train)
    monkeypatch.setattr(compare_runs, "evaluate", lambda run: None)
    monkeypatch.setattr(compare_runs, "write_report", lambda run: None)
    return found


def comparison(path, **overrides) -> Run:
    settings = {
        "mode": "compare", "seeds": 2, "workdir": str(path), "tuning_trials": 3,
        "validation_share": 0.2, "protocols": "knn,few_labels,clustering", "label_shares": "1%",
        "variants": "none:detector=none;temperature=0.2|0.1|0.3",
    }  # fmt: skip
    return tiny.run(tiny.config(**{**settings, **overrides}), make_strategy("default"))


def test_the_best_trial_on_the_validation_split_is_run_on_all_images(tmp_path, trained):
    compare.compare(comparison(tmp_path))
    assert trained == ["none-0", "none-1", "none-2", "none-0", "none-1"]
    flags = {p: RunReader(str(tmp_path / p)).flags() for p in ("tuning/none-1", "none-0", "none-1")}
    assert [each["validation_share"] for each in flags.values()] == ["0.2", "0.0", "0.0"]
    assert flags["none-0"]["temperature"] == flags["none-1"]["temperature"] == "0.1"
    rows = [line.split("\t") for line in (tmp_path / "tuning.tsv").read_text().splitlines()]
    assert rows[0] == [
        "variant", "trial", "settings", "knn_top1", "linear_1pct_top1", "cluster_nmi", "mean_rank",
        "chosen", "variant_rank",
    ]  # fmt: skip
    by_settings = {row[2].split("temperature=")[1]: row[3:] for row in rows[1:]}
    assert by_settings == {
        "0.2": ["0.8000", "0.5000", "0.6000", "1.66667", "", ""],
        "0.1": ["0.9000", "0.6000", "0.5000", "1.33333", "yes", "1"],
        "0.3": ["0.7000", "0.4000", "0.4000", "3", "", ""],
    }
    variants = json.loads((tmp_path / "compare.json").read_text())["variants"]
    assert variants["none"]["seeds"] == [0, 1]
    # Again: nothing is repeated, and a seed that is added has the settings chosen.
    trained.clear()
    compare.compare(comparison(tmp_path, seeds=3))
    assert trained == ["none-2"]
    assert RunReader(str(tmp_path / "none-2")).flags()["temperature"] == "0.1"


@pytest.mark.slow
def test_a_trial_that_diverged_is_the_worst_and_not_repeated(tmp_path, trained):
    variants = "bad:detector=none;temperature=0.2|0.3|0.1"
    compare.compare(comparison(tmp_path, variants=variants))
    table = (tmp_path / "tuning.tsv").read_text()
    assert "bad\t0\tdetector=none;temperature=0.2\tdiverged\tdiverged\tdiverged\t3\t\t\n" in table
    assert trained == ["bad-0", "bad-1", "bad-2", "bad-0", "bad-1"]
    assert RunReader(str(tmp_path / "bad-0")).flags()["temperature"] == "0.1"
    trained.clear()
    compare.compare(comparison(tmp_path, variants=variants))
    assert trained == []


@pytest.mark.slow
def test_nothing_is_chosen_before_every_trial_has_ended(tmp_path, trained, monkeypatch):
    train = compare_runs.train

    def fail_once(run):
        if run.config.temperature == 0.1:
            raise UserError("the disk is full")
        train(run)

    monkeypatch.setattr(compare_runs, "train", fail_once)
    with pytest.raises(UserError, match="1 of 3 tuning trials have not ended.*the disk is full"):
        compare.compare(comparison(tmp_path))
    assert not (tmp_path / "none-0/results.json").exists()
    monkeypatch.setattr(compare_runs, "train", train)
    trained.clear()
    compare.compare(comparison(tmp_path))
    assert len(trained) == 3 and trained[1:] == ["none-0", "none-1"]


@pytest.mark.slow
def test_variants_are_ranked_by_their_chosen_trials(tmp_path, trained):
    variants = (
        "a:temperature=0.3;width=2|3|4,b:temperature=0.1;width=2|3|4,c:temperature=0.2;width=2|3|4"
    )
    compare.compare(comparison(tmp_path, variants=variants, seeds=1))
    rows = [line.split("\t") for line in (tmp_path / "tuning.tsv").read_text().splitlines()[1:]]
    # Of equal trials the first is chosen; by kNN, 1% and NMI c is second, second and first.
    assert [(row[0], row[1], row[-1]) for row in rows if row[-2]] == [
        ("a", "0", "3"), ("b", "0", "1.33333"), ("c", "0", "1.66667"),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_variant_that_always_diverges_is_left_out_and_named(tmp_path, trained):
    variants = "none:temperature=0.3;width=2|3|4,bad:temperature=0.2;width=2|3|4"
    compare.compare(comparison(tmp_path, variants=variants, seeds=1))
    assert trained[6:] == ["none-0"]
    summary = json.loads((tmp_path / "compare.json").read_text())
    assert list(summary["variants"]) == ["none"]
    assert summary["verdict"] == ["Left out, since every tuning trial diverged: bad."]
    assert "every tuning trial diverged: bad" in (tmp_path / "compare.html").read_text()
    # Nothing can be compared with a baseline without results.
    with pytest.raises(UserError, match="a trial of the baseline, bad, that does not diverge"):
        compare.compare(comparison(tmp_path / "other", variants=variants.partition(",")[2]))


@pytest.mark.slow
def test_the_summary_names_the_runs_that_it_lacks(tmp_path, trained, monkeypatch):
    train = compare_runs.train

    def fail(run):
        if "none-1" in run.config.run_path:
            raise UserError("the disk is full")
        train(run)

    monkeypatch.setattr(compare_runs, "train", fail)
    settings = {"variants": "none:temperature=0.3,bad:temperature=0.2", "tuning_trials": 0}
    with pytest.raises(UserError, match="3 of 4 runs failed"):
        compare.compare(comparison(tmp_path, **settings))
    assert json.loads((tmp_path / "compare.json").read_text())["verdict"] == [
        "Diverged, so without results: bad, seed 0; bad, seed 1.",
        "1 of 4 runs have no results yet: none, seed 1.",
    ]
