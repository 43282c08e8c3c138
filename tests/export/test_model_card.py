"""The model card says what the run directory knows."""

import json
import pathlib

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
                  "| moco, ifnd detector, eliminate |"):  # fmt: skip
        assert words in card, words


def test_a_run_without_labels_says_that_it_was_not_evaluated(tmp_path):
    (tmp_path / "config.flags").write_text("--experiment=photos\n")
    assert "Not evaluated" in pathlib.Path(model_card.write(str(tmp_path))).read_text()
