"""The model card says what the run directory knows."""

import json
import pathlib

import pytest

from ifnd_tf.detection import detectors
from ifnd_tf.export import model_card


def test_the_card_is_filled_from_the_run(tmp_path):
    (tmp_path / "config.flags").write_text(
        "--experiment=birds\n--dataset=folder:birds\n--epochs=9\n--image_size=64\n"
        "--backbone=resnet18\n--detector=ifnd\n--framework=moco\n--loss=eliminate\n"
    )
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 7, "loss": 1.0}) + "\n")
    (tmp_path / "results.json").write_text(
        json.dumps(
            {
                "knn_top1": 0.5,
                "train_seconds": 61,
                "health_warnings": ["It collapsed."],
                "training_warnings": ["epoch 3: It began."],
            }
        )
    )
    card = pathlib.Path(model_card.write(str(tmp_path))).read_text()
    for words in ("# birds", "folder:birds", "7 of 9", "1:01", "| kNN accuracy | 50.0% |",
                  "64 pixels", "- It collapsed.", "- epoch 3: It began.", "resnet18",
                  "| moco, ifnd detector, eliminate |", "--workdir=NEW` trains it\nagain",
                  "without labels, with incremental false negative\ndetection (Chen"):  # fmt: skip
        assert words in card, words


def test_a_run_without_labels_says_that_it_was_not_evaluated(tmp_path):
    (tmp_path / "config.flags").write_text("--experiment=photos\n")
    assert "Not evaluated" in pathlib.Path(model_card.write(str(tmp_path))).read_text()


@pytest.mark.parametrize("detector", detectors.DETECTORS)
def test_the_card_tells_what_the_labels_were_used_for(tmp_path, detector):
    (tmp_path / "config.flags").write_text(f"--detector={detector}\n")
    card = pathlib.Path(model_card.write(str(tmp_path))).read_text()
    assert card.startswith(f"# {tmp_path.name}\n")
    assert ("without labels" in card) == (detector in ("ifnd", "neighbours", "none"))
    assert ("Chen et al." in card) == (detector == "ifnd")
