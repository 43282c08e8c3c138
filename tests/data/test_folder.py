"""Folders of images as people keep them: which splits, classes and images they give."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifnd_tf.data import datasets
from ifnd_tf.data.contents import Contents, require_same
from ifnd_tf.errors import UserError
from tests.data.conftest import picture

pytestmark = pytest.mark.cases


def save(path: Path, index: int = 0, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(index)).save(path, **options)


def class_folders(root: Path, *names: str, count: int = 10) -> Path:
    for name in names:
        for i in range(count):
            save(root / name / f"{i}.png", i)
    return root


def names(source) -> list[str]:
    return [source.describe(i) for i in range(source.num_examples)]


def opened(root: Path, **options) -> datasets.Splits:
    return datasets.open_splits(f"folder:{root}", **options)


def notes(splits: datasets.Splits) -> dict[str, tuple[int, str]]:
    return {note.kind: (note.number, note.text) for note in splits.train.contents.notes}


def refuses(message: str, root: Path, **options) -> None:
    with pytest.raises(UserError, match=message):
        opened(root, **options)


# --- splits and classes -------------------------------------------------------------------


def test_class_folders_give_labels_at_any_depth(class_folders):
    splits = opened(class_folders, holdout_share=0.2)
    assert splits.train.class_names == ("cat", "dog", "fish")
    # 10 of each class, a fifth of each held out.
    assert list(np.bincount(splits.evaluation.labels)) == [2, 2, 2]
    assert list(np.bincount(splits.train.labels)) == [8, 8, 8]
    for split in splits:
        for index in range(split.num_examples):
            path = Path(split.describe(index)).relative_to(class_folders)
            assert path.parts[0] == split.class_names[split.labels[index]]


def test_train_and_test_roots_share_one_numbering(tmp_path):
    save(tmp_path / "train" / "b" / "0.png")
    save(tmp_path / "train" / "c" / "1.png")
    save(tmp_path / "val" / "a" / "2.png")
    save(tmp_path / "val" / "c" / "3.png")
    splits = opened(tmp_path)
    assert splits.train.class_names == splits.evaluation.class_names == ("a", "b", "c")
    assert list(splits.train.labels) == [1, 2]
    assert list(splits.evaluation.labels) == [0, 2]


def test_named_folders_are_used(tmp_path):
    for i, name in enumerate(("train", "unlabeled", "test", "extra")):
        save(tmp_path / name / f"{i}.png")
    default = opened(tmp_path)
    assert names(default.train) == [str(tmp_path / "train" / "0.png")]
    assert names(default.evaluation) == [str(tmp_path / "test" / "2.png")]
    chosen = opened(tmp_path, train_split="unlabeled", eval_split="extra")
    assert names(chosen.train) == [str(tmp_path / "unlabeled" / "1.png")]
    assert names(chosen.evaluation) == [str(tmp_path / "extra" / "3.png")]


def test_images_without_class_folders_have_no_labels(tmp_path):
    for i in range(10):
        save(tmp_path / ("2020/june" if i % 2 else "") / f"{i}.png")
    splits = opened(tmp_path, holdout_share=0.3)
    assert splits.train.class_names == ()
    assert splits.train.num_examples == 7 and splits.evaluation.num_examples == 3
    assert set(splits.train.labels) == {-1}


def test_the_order_is_that_of_the_paths_and_hidden_files_are_left_out(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.webp", ".hidden.png", ".cache/d.png", "note.txt.bmp"):
        save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    source = opened(tmp_path, holdout_share=0.01).train
    found = [os.path.basename(path) for path in names(source)]
    assert found == ["a.jpeg", "b.PNG", "c.webp", "note.txt.bmp"]


def test_linked_folders_are_followed_once(tmp_path):
    save(tmp_path / "real" / "0.png")
    save(tmp_path / "data" / "a" / "1.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    source = opened(tmp_path / "data", holdout_share=0.01).train
    assert [Path(name).name for name in names(source)] == ["1.png", "0.png"]


def test_a_class_called_train_is_no_split(tmp_path):
    splits = opened(class_folders(tmp_path, "bus", "car", "train"))
    assert splits.train.class_names == ("bus", "car", "train")
    assert np.bincount(splits.train.labels).tolist() == [8, 8, 8]
    assert not notes(splits)


@pytest.mark.parametrize(
    "train, test",
    [
        ("Train", "Test"),
        ("TRAIN", "VALIDATION"),
        ("Training", "Validation"),
        ("train_images", "test_images"),
        ("trainset", "testset"),
    ],
)
def test_splits_are_found_in_any_case(tmp_path, train, test):
    class_folders(tmp_path / train, "a", "b")
    class_folders(tmp_path / test, "a", "b", count=3)
    splits = opened(tmp_path)
    assert splits.train.class_names == ("a", "b")
    assert splits.train.num_examples == 20 and splits.evaluation.num_examples == 6


def test_images_outside_the_splits_are_counted_and_named(tmp_path):
    class_folders(tmp_path / "train", "a", "b")
    class_folders(tmp_path / "test", "a", "b", count=2)
    class_folders(tmp_path / "testing", "a", count=3)
    class_folders(tmp_path, "unlabeled", count=4)
    number, text = notes(opened(tmp_path))["outside_splits"]
    assert number == 7
    assert "4 in unlabeled/, 3 in testing/" in text and "train/ and test/" in text
    assert opened(tmp_path, eval_split="testing").evaluation.num_examples == 3
    whole = opened(tmp_path, train_split=".")
    assert whole.train.class_names == ("test", "testing", "train")


def test_a_test_split_without_class_folders_is_not_evaluated_on(tmp_path):
    class_folders(tmp_path / "train", "cat", "dog")
    class_folders(tmp_path, "test", count=7)
    splits = opened(tmp_path)
    assert np.bincount(splits.evaluation.labels).tolist() == [2, 2]
    assert all("/train/" in name for name in names(splits.evaluation))
    number, text = notes(splits)["unlabelled_split"]
    assert number == 7 and "train/, of which a share is held out" in text
    refuses("--eval_split: expected class folders", tmp_path, eval_split="test")


def test_one_loose_image_has_no_label_and_costs_no_other_its_own(tmp_path):
    class_folders(tmp_path, "a", "b")
    save(tmp_path / "overview.png")
    splits = opened(tmp_path, holdout_share=0.001)
    assert np.bincount(splits.train.labels + 1).tolist() == [1, 10, 10]
    number, text = notes(splits)["unlabelled"]
    assert number == 1 and "overview.png" in text


def test_a_few_labels_among_many_images_are_kept_and_no_image_without_one_is_held_out(tmp_path):
    class_folders(tmp_path, "cat", "dog", "unlabeled", count=5)
    for i in range(30):
        save(tmp_path / f"{i}.png")
    splits = opened(tmp_path)
    assert splits.train.class_names == ("cat", "dog")
    assert np.bincount(splits.train.labels + 1).tolist() == [35, 4, 4]
    assert np.bincount(splits.evaluation.labels).tolist() == [1, 1]
    assert notes(splits)["unlabelled"][0] == 35


def test_one_folder_beside_loose_images_gives_no_label(tmp_path):
    class_folders(tmp_path, "cats", count=5)
    save(tmp_path / "0.png")
    splits = opened(tmp_path)
    assert not splits.train.labelled
    assert "cats/ is the only folder of images" in notes(splits)["one_folder"][1]


def test_the_first_split_that_can_be_evaluated_on_is(tmp_path):
    class_folders(tmp_path / "train", "a", "b")
    class_folders(tmp_path / "val", "a", "b", count=3)
    class_folders(tmp_path, "test", count=4)
    splits = opened(tmp_path)
    assert "/val/" in names(splits.evaluation)[0] and splits.evaluation.num_examples == 6
    assert "4 in test/" in notes(splits)["outside_splits"][1]


def test_a_test_split_of_other_folders_than_the_classes_is_unlabelled(tmp_path):
    class_folders(tmp_path / "train", "a", "b")
    class_folders(tmp_path / "test", "unknown", count=3)
    splits = opened(tmp_path)
    assert splits.train.class_names == ("a", "b")
    assert notes(splits)["unlabelled_split"][0] == 3


def test_unlabelled_splits_are_said_to_be_of_no_use_for_evaluation(tmp_path):
    class_folders(tmp_path, "train", "test", count=3)
    splits = opened(tmp_path)
    assert splits.train.num_examples == 3 and splits.evaluation.num_examples == 3
    assert "nothing is evaluated" in notes(splits)["unlabelled_split"][1]


def test_links_to_images_that_are_trained_on_are_refused(tmp_path):
    class_folders(tmp_path / "train", "a", "b", count=3)
    class_folders(tmp_path / "test", "a", "b", count=1)
    (tmp_path / "test" / "a" / "again.png").symlink_to(tmp_path / "train" / "a" / "1.png")
    refuses("1 link to images of train/: test/a/again.png", tmp_path)


def test_classes_that_hold_folders_may_be_called_train(tmp_path):
    class_folders(tmp_path, "bus/2020", "car/2020", "train/2020", count=3)
    assert opened(tmp_path).train.class_names == ("bus", "car", "train")


def test_one_sub_folder_is_unlabelled_images(tmp_path):
    splits = opened(class_folders(tmp_path, "holiday"))
    assert splits.train.num_examples == 10 and not splits.train.labelled
    assert "holiday/ is the only folder of images" in notes(splits)["one_folder"][1]


def test_a_data_set_inside_a_folder_of_its_name_is_found(tmp_path):
    class_folders(tmp_path / "pets" / "train", "a", "b")
    class_folders(tmp_path / "pets" / "test", "a", "b", count=1)
    splits = opened(tmp_path)
    assert splits.train.class_names == ("a", "b") and splits.evaluation.num_examples == 2
    assert next(iter(splits.train.contents.sizes)) == "pets/test/a/0.png"


def test_bad_folders_are_refused(tmp_path):
    refuses("expected a folder", tmp_path / "missing")
    refuses("Received: none", tmp_path)
    class_folders(tmp_path, "only", count=1)
    refuses("--train_split: expected a folder", tmp_path, train_split="big")
    refuses("--eval_split: expected a folder", tmp_path, eval_split="val")


# --- which files are images ---------------------------------------------------------------


def test_other_files_are_counted_by_extension(tmp_path):
    class_folders(tmp_path, "a", "b")
    for name in ("a/1.raw", "a/2.raw", "b/notes.txt", "LICENSE"):
        (tmp_path / name).write_text("no image")
    number, text = notes(opened(tmp_path))["other_files"]
    assert number == 4
    assert "2 .raw" in text and "1 .txt" in text and "1 without extension" in text


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "main.py").write_text("")
    refuses(r"Received: none, but 1 \.py", tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"PK")
    refuses("Unpack the archive", tmp_path)


def test_jfif_and_files_without_extension_are_read_by_their_first_bytes(tmp_path):
    for i in range(6):
        path = tmp_path / f"{i}.jpg"
        save(path, i)
        path.rename(path.with_suffix((".jfif", "", ".JPE")[i % 3]))
    (tmp_path / "README").write_text("no image")
    splits = opened(tmp_path)
    assert splits.train.num_examples == 6
    assert notes(splits)["other_files"][0] == 1


def test_names_that_are_no_utf8_are_read(tmp_path):
    from ifnd_tf.data.scan import scan

    class_folders(tmp_path, "a", "b")
    save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/a/caf\xe9\t.png")
    source = opened(tmp_path, holdout_share=0.001).train
    scan(source, cache_megabytes=0)
    assert source.num_examples == 21 and not source.unreadable
    assert f"{tmp_path}/a/caf\\xe9\\t.png" in names(source)


def test_unknown_extensions_are_looked_into(tmp_path):
    class_folders(tmp_path, "a", "b")
    for i, name in enumerate(("IMG 2024.01.15", "x.jpg_large", "y.PNG~")):
        save(tmp_path / "a" / "new.png", i)
        (tmp_path / "a" / "new.png").rename(tmp_path / "a" / name)
    assert opened(tmp_path, holdout_share=0.001).train.num_examples == 23


def test_only_regular_files_are_images(tmp_path):
    class_folders(tmp_path, "a", "b")
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    splits = opened(tmp_path, holdout_share=0.001)
    assert splits.train.num_examples == 20
    number, text = notes(splits)["not_regular"]
    assert number == 3 and "a/gone.png, a/loop.png, a/pipe.png" in text


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    class_folders(tmp_path, "a", "b")
    save(tmp_path / "a" / "photos.jpg" / "1.png")
    splits = opened(tmp_path, holdout_share=0.001)
    assert np.bincount(splits.train.labels).tolist() == [11, 10]


def test_runs_are_no_data(tmp_path):
    class_folders(tmp_path, "a", "b")
    save(tmp_path / "runs" / "x" / "images" / "map.png")
    (tmp_path / "runs" / "x" / "config.flags").write_text("--epochs=1")
    save(tmp_path / "runs" / "y" / "check" / "views.png")
    splits = opened(tmp_path, workdir=str(tmp_path / "runs" / "y"))
    assert splits.train.class_names == ("a", "b")
    assert "runs/x/" in notes(splits)["run_directories"][1]


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    class_folders(tmp_path, "a", "b", "private")
    scandir = os.scandir

    def scan(path):
        if str(path).rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    splits = opened(tmp_path)
    assert splits.train.class_names == ("a", "b")
    assert "private/" in notes(splits)["unreadable_folders"][1]


def test_a_folder_of_code_is_not_taken_for_photos_in_silence(tmp_path):
    class_folders(tmp_path / "docs" / "images", "a", "b")
    splits = opened(tmp_path)
    assert "code_folder" not in notes(splits)
    for name in ("main.py", "setup.py", "test.py"):
        (tmp_path / name).touch()
    count, text = notes(opened(tmp_path))["code_folder"]
    assert count == 3 and "a folder of code: 3 programs beside 20 images" in text
    assert f"--dataset=folder:{tmp_path / 'docs' / 'images'}" in text


def test_images_are_counted_while_they_are_found(tmp_path):
    for number in range(2500):
        (tmp_path / f"{number}.png").write_bytes(b"1")
    counts: list[tuple[int, int]] = []
    opened(tmp_path, progress=lambda *each: counts.append(each))
    assert counts == [(1000, 0), (2000, 0)]


def test_a_cameras_raw_files_are_no_images_though_they_begin_as_tiff_does(tmp_path):
    class_folders(tmp_path, "a", "b")
    for name in ("1.CR2", "2.nef", "3.dng"):
        save(tmp_path / "a" / "preview.tif")
        (tmp_path / "a" / "preview.tif").rename(tmp_path / "a" / name)
    splits = opened(tmp_path)
    assert all(name.endswith(".png") for name in names(splits.train))
    number, text = notes(splits)["other_files"]
    assert number == 3 and "1 .cr2 (raw: export them as JPEG)" in text


def test_a_link_out_of_the_folder_to_one_around_it_is_a_loop(tmp_path):
    class_folders(tmp_path / "others" / "mine", "a", "b")
    save(tmp_path / "others" / "foreign.png")
    (tmp_path / "others" / "mine" / "a" / "up").symlink_to(tmp_path / "others")
    splits = opened(tmp_path / "others" / "mine")
    assert splits.train.num_examples + splits.evaluation.num_examples == 20


@pytest.mark.parametrize("split", ["test", "val", "Testing"])
def test_a_split_folder_alone_is_no_class(tmp_path, split):
    class_folders(tmp_path / split, "a", "b")
    splits = opened(tmp_path)
    assert splits.train.class_names == ("a", "b") and splits.train.labelled
    assert (splits.train.num_examples, splits.evaluation.num_examples) == (16, 4)


@pytest.mark.parametrize("others", [(), ("a", "b")])
def test_the_split_that_is_trained_on_is_not_evaluated_on(tmp_path, others):
    for name in ("test", *("val" for _ in others[:1])):
        class_folders(tmp_path / name, "a", "b")
    splits = opened(tmp_path, train_split="test")
    trained, evaluated = names(splits.train), names(splits.evaluation)
    assert len(evaluated) == (20 if others else 4) and not set(trained) & set(evaluated)
    refuses("--eval_split: .* beside test/", tmp_path, train_split="test", eval_split="test")


def test_files_of_many_kinds_are_all_counted(tmp_path):
    class_folders(tmp_path, "a", "b")
    for number in range(10):
        (tmp_path / "a" / f"x.kind{number}").write_text("no image")
    number, text = notes(opened(tmp_path))["other_files"]
    assert number == 10 and text.startswith("10 files not read: 1 .kind")
    assert text.endswith(", 2 of other kinds")


def test_several_names_that_are_no_files_are_counted_in_the_plural(tmp_path):
    class_folders(tmp_path, "a", "b")
    for name in ("x.png", "y.png"):
        (tmp_path / "a" / name).symlink_to("nowhere")
    assert notes(opened(tmp_path))["not_regular"] == (
        2, "2 entries that are no readable files or folders: a/x.png, a/y.png"
    )  # fmt: skip


def test_classes_that_one_of_the_two_parts_lacks_are_named(tmp_path):
    class_folders(tmp_path / "held", "a", "b")
    save(tmp_path / "held" / "rare" / "1.png")
    number, text = notes(opened(tmp_path / "held"))["class_not_evaluated"]
    assert number == 1 and text.startswith("1 class without an image held out")
    assert text.endswith(": rare")
    class_folders(tmp_path / "split" / "train", "a", "b")
    class_folders(tmp_path / "split" / "test", "a", "b", "new\nname")
    found = notes(opened(tmp_path / "split"))
    assert list(found) == ["class_not_trained"]
    assert found["class_not_trained"][1].endswith(r"counts as wrong: new\nname")


# --- fingerprint --------------------------------------------------------------------------


def test_changes_of_a_folder_are_named(tmp_path):
    class_folders(tmp_path, "a", "b")
    before = opened(tmp_path).train.contents
    assert not opened(tmp_path).train.contents.changes_since(before)
    (tmp_path / "a" / "3.png").rename(tmp_path / "b" / "new\n.png")
    (tmp_path / "b" / "4.png").write_bytes(b"12")
    now = opened(tmp_path).train.contents
    changes = now.changes_since(Contents(before.packed))
    assert changes == r"1 added (b/new\n.png); 1 removed (a/3.png); 1 changed (b/4.png)"
    with pytest.raises(UserError, match="1 removed .*another --workdir"):
        require_same("folder:x", before.packed, now, "runs/x")
    require_same("folder:x", now.packed, now, "runs/x")
    require_same("folder:x", b"", now, "runs/x")
    require_same("folder:x", gzip.compress(gzip.decompress(now.packed)), now, "runs/x")
    with pytest.raises(UserError, match="--workdir=runs/x: .*names of the data's files"):
        require_same("folder:x", now.packed[:-20], now, "runs/x")
