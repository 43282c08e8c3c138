"""The run directory: what it keeps, and whom it refuses."""

import json
import os

import numpy as np
import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory

FLAGS = {"epochs": "3", "mode": "train", "seed": "0"}


def test_results_are_merged_and_survive_a_new_process(tmp_path):
    RunDirectory(str(tmp_path), flags=FLAGS).write_results({"a": 1.0, "b": 2})
    again = RunDirectory(str(tmp_path), flags=FLAGS)
    assert again.write_results({"b": 3}) == {"a": 1.0, "b": 3}
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": 1.0, "b": 3}


def test_a_claimed_directory_refuses_other_flags_by_name(tmp_path):
    RunDirectory(str(tmp_path), flags=FLAGS).claim()
    RunDirectory(str(tmp_path), flags=FLAGS)
    RunDirectory(str(tmp_path), flags=FLAGS | {"mode": "evaluate"}, free=frozenset({"mode"}))
    with pytest.raises(UserError, match=r"--epochs \(was '3', is '4'\)") as error:
        RunDirectory(str(tmp_path), flags=FLAGS | {"epochs": "4"})
    assert "--seed" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"mode": "train,evaluate", "epochs": "4"}, ["--flagfile=", "--init_from="]),
        ({"mode": "check", "epochs": "4"}, ["To check that run, leave out what differs"]),
        ({"mode": "report", "dataset": "folder:b"}, ["own flags: leave out what differs"]),
        ({"mode": "embed", "dataset": "folder:my b"}, ["--embed_dataset='folder:my b' embeds"]),
        ({"mode": "evaluate,report", "dataset": "folder:b"},
         ["leave out what differs", "--transfer_dataset=folder:b evaluates"]),
        ({"mode": "embed,evaluate", "eval_split": "b"},
         ["--transfer_dataset=DATASET", "--embed_dataset=DATASET"]),
    ],
)  # fmt: skip
def test_the_refusal_says_what_a_stage_can_do_instead(tmp_path, changed, expected):
    before = FLAGS | {"dataset": "folder:a", "eval_split": ""}
    RunDirectory(str(tmp_path), flags=before).claim()
    with pytest.raises(UserError, match="holds a run with other flags") as error:
        RunDirectory(str(tmp_path), flags=before | changed, free=frozenset({"mode"}))
    assert all(each in str(error.value) for each in expected)
    assert ("--flagfile=" in str(error.value)) == ("train" in changed["mode"])


def test_a_directory_nobody_trained_in_is_free(tmp_path):
    RunDirectory(str(tmp_path), flags=FLAGS)
    RunDirectory(str(tmp_path), flags=FLAGS | {"epochs": "4"})


def test_others_than_the_chief_write_nothing(tmp_path):
    run = RunDirectory(str(tmp_path / "run"), flags=FLAGS, writer=False)
    run.claim()
    run.write_results({"a": 1})
    run.write_metrics([{"epoch": 1}])
    run.write_detection(0, {}, labels=np.zeros(1))
    run.write_unreadable([(0, "x", "y")])
    assert not (tmp_path / "run").exists()


def test_detection_is_kept_as_numbers_and_arrays(tmp_path):
    run = RunDirectory(str(tmp_path), flags=FLAGS)
    run.write_detection(7, {"accepted_share": 0.5}, labels=np.array([[1, -1]]))
    assert json.loads((tmp_path / "detection/0007.json").read_text()) == {"accepted_share": 0.5}
    np.testing.assert_array_equal(np.load(tmp_path / "detection/0007.npz")["labels"], [[1, -1]])


def test_no_half_written_file_is_left(tmp_path):
    run = RunDirectory(str(tmp_path), flags=FLAGS)
    run.write_metrics([{"epoch": 1}, {"epoch": 2}])
    run.write_metrics([{"epoch": 1}])
    assert run.metrics() == [{"epoch": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_sign_of_life_follows_the_claim(tmp_path):
    run = RunDirectory(str(tmp_path), flags={"epochs": "3"})
    run.write_status("running", "epoch 1/3")
    assert not (tmp_path / "status.json").exists()
    run.claim()
    run.write_status("running", "epoch 1/3")
    sign = json.loads((tmp_path / "status.json").read_text())
    assert (sign["state"], sign["text"], sign["pid"]) == ("running", "epoch 1/3", os.getpid())


def test_flags_of_an_earlier_version_are_compared_under_their_new_names(tmp_path):
    (tmp_path / "config.flags").write_text("--loss=attract\n--embedding_source=pass\n")
    same = {"treatment": "attract", "detect_with": "encoder"}
    RunDirectory(str(tmp_path), flags=same)
    with pytest.raises(UserError, match=r"--treatment \(was 'attract', is 'eliminate'\)"):
        RunDirectory(str(tmp_path), flags=same | {"treatment": "eliminate"})


def test_the_list_of_unreadable_images_goes_when_all_can_be_read_again(tmp_path):
    run = RunDirectory(str(tmp_path), flags={})
    run.claim()
    run.write_unreadable([(3, "a/3.jpg", "cut off")])
    assert (tmp_path / "unreadable.tsv").exists()
    run.write_unreadable([])
    assert not (tmp_path / "unreadable.tsv").exists()
