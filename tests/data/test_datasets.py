"""Data sets by name: which examples, labels and splits they give, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf.data import datasets, decode
from ifnd_tf.data.dataset_name import KINDS
from ifnd_tf.data.decode import as_pixels
from ifnd_tf.data.scan import scan
from ifnd_tf.errors import UserError
from tests.data.conftest import picture


def save(path: Path, index: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(index)).save(path)


def names(source) -> list[str]:
    return [source.describe(i) for i in range(source.num_examples)]


def refuses(message: str, dataset: str, **options) -> None:
    """One line that holds the expected, the received and what to do."""
    with pytest.raises(UserError) as caught:
        datasets.open_splits(dataset, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- digits -------------------------------------------------------------------------------


def test_digits_are_split_the_same_way_every_time():
    splits = datasets.open_splits("digits")
    # Of scikit-learn's 1,797 digits the classes' sizes are 174 to 183, a fifth of each is 35 to 37.
    assert splits.train.num_examples + splits.evaluation.num_examples == 1797
    assert set(np.bincount(splits.evaluation.labels)) == {35, 36, 37}
    assert splits.train.class_names == tuple("0123456789")
    again = datasets.open_splits("digits")
    assert names(splits.train) == names(again.train)


def test_validation_images_come_from_the_training_split_alone():
    plain = datasets.open_splits("digits")
    tuning = datasets.open_splits("digits", validation_share=0.25)
    trained, validated = set(names(tuning.train)), set(names(tuning.evaluation))
    assert not trained & validated
    assert trained | validated == set(names(plain.train))


def test_held_out_digits_are_not_trained_on():
    splits = datasets.open_splits("digits")
    assert not set(names(splits.train)) & set(names(splits.evaluation))


def test_digits_keep_their_levels():
    from sklearn.datasets import load_digits

    source = datasets.open_splits("digits").train
    place = int(source.describe(5).split()[-1])
    # Counts of 0 to 16 become levels in steps of 16, the last 255.
    expected = np.minimum(load_digits().images[place] * 16, 255)
    np.testing.assert_array_equal(source.pixels[5][..., 0], expected)
    np.testing.assert_array_equal(source.fetch(tf.constant(5))[..., 2], expected)
    assert source.labels[5] == load_digits().target[place]


# --- list ---------------------------------------------------------------------------------


def write_list(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"list:{path}"


def test_a_list_gives_paths_and_labels_in_its_order(tmp_path):
    lines = [f"pictures/{i}.png\t{'cat' if i % 2 else 'ape'}" for i in (3, 1, 2, 0)]
    for i in range(4):
        save(tmp_path / "pictures" / f"{i}.png", i)
    splits = datasets.open_splits(write_list(tmp_path / "all.tsv", [*lines, ""]), holdout_share=0.1)
    assert [Path(name).stem for name in names(splits.train)] == ["3", "1", "2", "0"]
    assert splits.train.class_names == ("ape", "cat")
    assert list(splits.train.labels) == [1, 1, 0, 0]
    assert splits.evaluation is None  # round(0.1 x 2) of each class is none.


def test_numbers_as_labels_are_in_numeric_order_and_may_be_missing(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png")
    lines = ["0.png\t10", "1.png\t9", "2.png", "3.png\t"]
    source = datasets.open_splits(write_list(tmp_path / "a.tsv", lines), holdout_share=0.1).train
    assert source.class_names == ("9", "10")
    assert list(source.labels) == [1, 0, -1, -1]


def test_labels_that_begin_with_dashes_are_texts(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png")
    lines = ["0.png\t--5", "1.png\t-10", "2.png\t9"]
    source = datasets.open_splits(write_list(tmp_path / "a.tsv", lines), holdout_share=0.1).train
    assert source.class_names == ("--5", "-10", "9")


def test_images_with_several_labels_are_held_out_alike(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png")
    lines = [f"{i}.png\tape;bee" for i in range(10)]
    splits = datasets.open_splits(write_list(tmp_path / "a.tsv", lines), holdout_share=0.2)
    assert (splits.train.num_examples, splits.evaluation.num_examples) == (8, 2)


def test_a_second_list_is_the_evaluation_split(tmp_path):
    for i in range(4):
        save(tmp_path / "in" / f"{i}.png")
    train = write_list(tmp_path / "train.tsv", ["in/0.png\tb", "in/1.png\tc"])
    write_list(tmp_path / "test.tsv", ["2.png\ta", "3.png\tc"])
    with pytest.raises(UserError, match="expected paths relative to"):
        datasets.open_splits(train, eval_split=str(tmp_path / "test.tsv"))
    write_list(tmp_path / "test.tsv", ["in/2.png\ta", "in/3.png\tc"])
    splits = datasets.open_splits(train, eval_split=str(tmp_path / "test.tsv"))
    assert list(splits.train.labels) == [1, 2]
    assert list(splits.evaluation.labels) == [0, 2]


def test_bad_lists_are_refused_with_the_line(tmp_path):
    save(tmp_path / "0.png")
    save(tmp_path / "1.png")
    path = tmp_path / "list.tsv"
    refuses("expected a readable list", f"list:{path}")
    refuses("line 2: expected path<tab>label", write_list(path, ["0.png\ta", "1.png\tb\tc"]))
    refuses("line 1: expected path<tab>label", write_list(path, ["\ta", "1.png\tb"]))
    refuses("line 3: expected each image once", write_list(path, ["0.png", "1.png", "0.png\tb"]))
    refuses("Received: an empty list", write_list(path, ["", "  "]))
    refuses("line 2: expected paths relative", write_list(path, ["", "gone.png\ta"]))
    refuses("Received: only 'a'", write_list(path, ["0.png\ta", "1.png\ta"]))
    path.write_bytes(b"0.png\ta\n\xff.png\tb\n")
    refuses("line 2: expected path<tab>label in UTF-8", f"list:{path}")


def test_absolute_paths_in_a_list_are_taken_as_they_are(tmp_path):
    save(tmp_path / "elsewhere" / "0.png", 3)
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "a.tsv"
    source = datasets.open_splits(
        write_list(path, [str(tmp_path / "elsewhere" / "0.png")]), holdout_share=0.1
    ).train
    np.testing.assert_array_equal(as_pixels(source.fetch(tf.constant(0))), picture(3))


def test_a_list_may_be_relative_to_the_data_dir(tmp_path, monkeypatch):
    save(tmp_path / "elsewhere" / "0.png")
    save(tmp_path / "elsewhere" / "1.png")
    name = write_list(tmp_path / "a.tsv", ["0.png\ta", "1.png\tb"])
    splits = datasets.open_splits(name, data_dir=str(tmp_path / "elsewhere"), holdout_share=0.1)
    assert names(splits.train)[1] == str(tmp_path / "elsewhere" / "1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    splits = datasets.open_splits(name, data_dir="~/elsewhere", holdout_share=0.1)
    assert names(splits.train)[1] == str(tmp_path / "elsewhere" / "1.png")


# --- names --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "", "folder:", "digits:x", "tfds:", "folder"])
def test_unknown_names_list_what_exists(name):
    refuses(f"expected {KINDS}", name)


def test_splits_that_a_data_set_cannot_have_are_refused(tmp_path):
    refuses("--train_split: expected train", "digits", train_split="test")
    refuses("--eval_split: expected none", "digits", eval_split="test")
    save(tmp_path / "0.png")
    refuses(
        "--train_split: expected train",
        write_list(tmp_path / "a.tsv", ["0.png"]),
        train_split="big",
    )


def test_too_large_a_holdout_is_refused():
    source = datasets.open_splits("digits").train
    with pytest.raises(UserError, match="--holdout_share: expected to leave training examples"):
        datasets.hold_out(source.subset(np.arange(3)), 0.9)


def test_a_subset_keeps_the_first_classes_and_equally_many_images():
    whole, few = (
        datasets.open_splits("digits"),
        datasets.open_splits("digits", subset_classes=3, subset_images=100),
    )
    assert np.bincount(few.train.labels).tolist() == [33, 33, 33]
    kept = {few.train.describe(i) for i in range(99)}
    assert kept < {whole.train.describe(i) for i in range(whole.train.num_examples)}
    # All images of the classes are tested on, whatever the number trained on.
    expected = np.bincount(whole.evaluation.labels)[:3]
    np.testing.assert_array_equal(np.bincount(few.evaluation.labels), expected)


def test_a_subset_that_cannot_be_evaluated_on_is_refused(tmp_path):
    for i in range(8):
        save(tmp_path / f"{i}.png")
    lines = [f"{i}.png\t{label}" for i, label in enumerate("abcabccc")]
    train = write_list(tmp_path / "train.tsv", lines[:6])
    write_list(tmp_path / "test.tsv", lines[6:])
    with pytest.raises(UserError, match="--subset_classes: .* Received: 2, none of which it has"):
        datasets.open_splits(train, eval_split=str(tmp_path / "test.tsv"), subset_classes=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_classes": 11}, "subset_classes: expected at least 2 and at most the 10"),
        ({"subset_classes": 1}, "Received: 1"),
        ({"subset_classes": 2, "subset_images": 10**6}, "subset_images: .* at most 284"),
        ({"subset_classes": 4, "subset_images": 3}, "subset_images: expected at least 4"),
    ],
)
def test_a_subset_that_the_data_cannot_give_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        datasets.open_splits("digits", **options)


def test_a_share_of_labelled_images_alone_is_held_out_unless_asked(tmp_path):
    for i in range(10):
        save(tmp_path / "photos" / f"{i}.png")
        save(tmp_path / "sorted" / "ab"[i % 2] / f"{i}.png")
    assert datasets.open_splits(f"folder:{tmp_path / 'photos'}").evaluation is None
    asked = datasets.open_splits(f"folder:{tmp_path / 'photos'}", holdout_share=0.2)
    assert asked.evaluation.num_examples == 2
    assert datasets.open_splits(f"folder:{tmp_path / 'sorted'}").evaluation.num_examples == 2


@pytest.mark.slow
def test_a_subset_reads_its_images_as_the_whole_does(tmp_path):
    """With the decoding that was asked for, and what a scan has found."""
    for label in ("a", "b"):
        for i in range(5):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "a" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    black = decode.Decoding(background=0)
    source = datasets.open_splits(f"folder:{tmp_path}", decoding=black, holdout_share=0.2).train
    scan(source, max_corrupt_share=1.0)
    (bad,) = source.unreadable
    part = source.subset(np.arange(1, source.num_examples))
    assert [(each.index, each.name) for each in part.unreadable] == [(bad.index - 1, bad.name)]
    assert part.scanned and part.describe(0) == source.describe(1)
    assert part.labels.tolist() == source.labels[1:].tolist()
    index = int(part.readable[0])
    assert np.all(part.decode(part.fetch(index)) == 0)
    assert source.num_examples == len(source.labels) == 8
