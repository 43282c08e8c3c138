"""Parquet files as Hugging Face writes them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ifnd_tf.data import datasets, decode, eval_batches, parquet, recipes, train_batches
from ifnd_tf.data.scan import scan
from ifnd_tf.errors import UserError
from tests.data.conftest import picture

ROWS, SIZE = 45, 16
RECIPE = recipes.recipe("moco_v2")


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number, 20 + number % 7, 24)).save(file, "PNG")
    return file.getvalue()


def write(path, numbers, *, struct=True, label=True, rows=7):
    images = [png(number) for number in numbers]
    if struct:
        images = [
            {"bytes": image, "path": f"{n}.png"} for n, image in zip(numbers, images, strict=True)
        ]
    columns = {"id": list(numbers), "image": images}
    features = {"image": {"_type": "Image"}}
    if label:
        columns["label"] = pa.array([number % 3 for number in numbers], pa.int64())
        features["label"] = {"names": ["ape", "bee", "cat"], "_type": "ClassLabel"}
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two training files of row groups of 7, and one to evaluate on."""
    root = tmp_path_factory.mktemp("hub") / "data"
    write(root / "train-00000-of-00002.parquet", range(20))
    write(root / "train-00001-of-00002.parquet", range(20, ROWS))
    write(root / "validation-00000-of-00001.parquet", range(100, 112))
    return root


def opened(folder, **options):
    return datasets.open_splits(f"parquet:{folder}/*.parquet", **options)


def in_two_parts(folder, rows):
    """The training images of train-0.parquet and train-1.parquet, of so many rows each."""
    for part in range(2):
        write(folder / f"train-{part}.parquet", range(rows * part, rows * part + rows))
    return opened(folder, holdout_share=0.0).train


def test_contents_are_named_alike_from_everywhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    here, there = (
        parquet.open_parquet("parquet:x", f"{start}/*.parquet", "train", "")[2]
        for start in ("data", folder)
    )
    assert here.packed == there.packed


def test_a_hash_in_names_is_no_part_of_the_split(tmp_path):
    write(tmp_path / "train-00000-of-00001-a09b74b3ef9c3b56.parquet", range(9))
    write(tmp_path / "test-00000-of-00001-ac7b8f3e2d1c4a0f.parquet", range(100, 105))
    train, evaluation, contents = parquet.open_parquet("p", f"{tmp_path}/*.parquet", "train", "")
    assert (train.num_examples, evaluation.num_examples, contents.notes) == (9, 5, ())


def test_files_of_no_split_that_is_used_are_named(tmp_path):
    for number, name in enumerate(("train", "train2", "test", "val", "träin-00000")):
        write(tmp_path / f"{name}.parquet", range(9 * number, 9 * number + 9))
    _, evaluation, contents = parquet.open_parquet("p", f"{tmp_path}/*.parquet", "train", "")
    assert evaluation.num_examples == 9
    (note,) = contents.notes
    assert note.text.startswith(
        "3 files of other splits than train and test not used: train2.parquet, träin-00000.parquet,"
        " val.parquet (--train_split"
    )


def test_files_are_open_one_at_a_time(folder, monkeypatch):
    open_now, most = [], []

    class Counted(pq.ParquetFile):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            open_now.append(self)
            most.append(len(open_now))

        def close(self, *args, **options):
            super().close(*args, **options)
            open_now.remove(self)

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    opened(folder)
    assert len(most) == 6 and max(most) == 1 and not open_now  # footers, then labels


def test_rows_are_examples_in_their_order(folder):
    train, evaluation = opened(folder)
    assert (train.num_examples, evaluation.num_examples) == (ROWS, 12)
    assert train.class_names == ("ape", "bee", "cat")
    # A column is read without the images.
    assert train.labels_known and list(train.labels) == [n % 3 for n in range(ROWS)]
    for number, each in enumerate(train.stream().as_numpy_iterator()):
        assert (each["index"], each["label"]) == (number, number % 3)
        decoded = decode.decode_image(each["image"])
        np.testing.assert_array_equal(decoded, picture(number, 20 + number % 7, 24))
    assert train.describe(29) == "train-00001-of-00002.parquet__9"
    assert sum(train.contents.sizes.values()) == sum(p.stat().st_size for p in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("struct", [True, False])
def test_bytes_may_be_a_column_of_their_own_and_labels_missing(struct, tmp_path):
    write(tmp_path / "part.parquet", range(9), struct=struct, label=False)
    train, evaluation = opened(tmp_path)
    assert evaluation is None and not train.labelled and set(train.labels) == {-1}
    scan(train)
    assert not train.unreadable


@pytest.mark.parametrize("struct", [True, False])
def test_cells_that_hold_no_image_are_named_as_what_they_are(struct, tmp_path):
    cells = [png(n) for n in range(5)] + [None, b"", b"not an image"]
    kind = pa.binary()
    if struct:
        kind, cells = (
            pa.struct([("bytes", kind)]),
            [c if c is None else {"bytes": c} for c in cells],
        )
    column = pa.array(cells, kind)
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", row_group_size=6)
    train, _ = opened(tmp_path)
    scan(train, max_corrupt_share=1.0)
    assert [(bad.index, bad.reason.partition(":")[0]) for bad in train.unreadable] == [
        (5, "null in the column image"), (6, "empty file"), (7, "no image that is read here"),
    ]  # fmt: skip


def training(source, elements, **options):
    options = {"batch_size": 9, "seed": 3, "augmentation": RECIPE, "image_size": SIZE} | options
    return list(
        train_batches.training_batches(source, **options).take(elements).as_numpy_iterator()
    )


@pytest.mark.slow
def test_an_epoch_holds_each_row_once_and_resumes(folder):
    whole = training(opened(folder).train, 10)
    indices = np.concatenate([each["index"] for each in whole]).reshape(2, -1)
    for epoch in indices:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(ROWS))
    rest = training(opened(folder).train, 3, first_step=7)
    for expected, received in zip(whole[7:], rest, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(received[key], value)


def test_a_pass_holds_each_row_once(folder):
    source = opened(folder).train.subset(np.arange(1, ROWS, 2))
    batches = eval_batches.ordered_batches(source, image_size=SIZE, batch_size=8)
    found = np.concatenate([each["index"] for each in batches.as_numpy_iterator()])
    np.testing.assert_array_equal(found[found >= 0], np.arange(source.num_examples))
    assert list(source.labels) == [n % 3 for n in range(1, ROWS, 2)]


def test_parts_are_read_as_the_whole_without_a_look_at_the_files(tmp_path):
    write(tmp_path / "train.parquet", range(20))
    source = opened(tmp_path, holdout_share=0.25).train
    source.decoding = decode.Decoding(background=0)
    (tmp_path / "train.parquet").rename(tmp_path / "elsewhere")
    part = source.subset(np.arange(2, 9))
    assert part.num_examples == 7 and part.describe(0) == source.describe(2)
    assert part.decoding == source.decoding and part.labels_known
    assert part.labels.tolist() == source.labels[2:9].tolist()
    whole = source.subset(np.arange(source.num_examples))
    assert whole.labels.tolist() == source.labels.tolist()


def test_files_without_rows_are_refused(tmp_path):
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"expected examples. Received: none in .*train.parquet"):
        opened(tmp_path)


@pytest.mark.faults
def test_a_file_cut_or_lost_after_the_start_counts_as_unreadable(tmp_path):
    source = in_two_parts(tmp_path, 10)
    (tmp_path / "train-1.parquet").unlink()
    scan(source, max_corrupt_share=0.5)
    assert [bad.index for bad in source.unreadable] == list(range(10, 20))
    assert source.unreadable[0].name == "train-1.parquet__0"
    assert source.unreadable[0].reason.startswith("its row group cannot be read: ")


@pytest.mark.faults
def test_damaged_files_and_other_columns_are_refused(folder, tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"expected a Parquet file. Received: .*bad.parquet"):
        opened(tmp_path)
    (tmp_path / "bad.parquet").unlink()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(UserError, match=r"expected a column of image bytes.*text \(string\)"):
        opened(tmp_path)
    table = pa.table({"image": [png(0)], "label": ["ape"]})
    pq.write_table(table, tmp_path / "text.parquet")
    with pytest.raises(UserError, match="expected whole numbers in the column label.*string"):
        opened(tmp_path)
    write(tmp_path / "a.parquet", range(3))
    pq.write_table(table.drop(["label"]), tmp_path / "text.parquet")
    with pytest.raises(UserError, match=r"expected the columns of .*text.parquet without label"):
        opened(tmp_path)
    with pytest.raises(UserError, match="expected a split among train, validation.*'dev'"):
        opened(folder, train_split="dev")
    with pytest.raises(UserError, match="another split than --train_split"):
        opened(folder, eval_split="train")
    with pytest.raises(UserError, match="Received: none that match"):
        datasets.open_splits(f"parquet:{folder}/none-*.parquet")


def two_files(folder, second, first_label=(0, 1)):
    """A good file of two rows, and one with other columns."""
    table = pa.table({"image": [png(0), png(1)], "label": list(first_label)})
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(pa.table(second), folder / "b.parquet")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"image": [1, 2], "label": [0, 1]}, r"image bytes in the column image.*int64 in .*b\."),
        ({"image": ["a", "b"], "label": [0, 1]}, r"expected image bytes.*string in .*b\.parquet"),
        ({"image": [{"path": "a"}], "label": [0]}, r"expected image bytes.*struct<path: string>"),
        ({"image": [png(2)], "label": [0.5]}, r"whole numbers in the column label.*double in .*b"),
        ({"image": [png(2)], "label": ["ape"]}, r"expected whole numbers.*string in .*b\.parquet"),
        ({"image": [png(2)], "label": [2**32 + 1]}, r"expected labels in the column label.*b\."),
    ],
)  # fmt: skip
def test_a_later_file_with_another_kind_of_column_is_refused(second, message, tmp_path):
    two_files(tmp_path, second)
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_labels_of_any_width_are_read_and_null_is_none(tmp_path):
    labels = pa.array([3, None], pa.uint64())
    two_files(tmp_path, {"image": [png(2), png(3)], "label": labels})
    source = opened(tmp_path, holdout_share=0.0).train
    assert source.labels.tolist() == [0, 1, 3, -1]


@pytest.mark.faults
@pytest.mark.parametrize(
    "metadata",
    [
        "not JSON",
        "null",
        {"info": None},
        {"info": {"features": [1]}},
        {"info": {"features": {"boxes": [{"_type": "Value"}], "label": {"_type": "ClassLabel"}}}},
        {"info": {"features": {"other": {"_type": "ClassLabel", "names": ["a"]}}}},
    ],
)
def test_odd_metadata_gives_no_names(metadata, tmp_path):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    table = pa.table({"image": [png(0), png(1)], "label": [0, 1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": text}), tmp_path / "a.parquet")
    source = opened(tmp_path, holdout_share=0.0).train
    assert source.class_names == () and source.labels.tolist() == [0, 1]


def test_a_column_twice_is_refused(tmp_path):
    fields = [pa.field(name, pa.int64()) for name in ("label", "label")]
    schema = pa.schema([pa.field("image", pa.binary()), *fields])
    table = pa.table([pa.array([png(0)]), pa.array([0]), pa.array([1])], schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="expected every column once. Received: label twice"):
        opened(tmp_path)


@pytest.mark.slow
@pytest.mark.faults
def test_rows_that_are_lost_while_training_are_counted_and_their_file_is_named(tmp_path):
    source = in_two_parts(tmp_path, 18)
    batches = train_batches.training_batches(
        source, batch_size=9, seed=3, augmentation=RECIPE, image_size=SIZE
    )
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1")
    for _ in range(2):  # epochs; in each the same are lost
        source.count_lost_anew()
        list(batches.take(4).as_numpy_iterator())
        assert len(source.lost) >= 9
    assert len(source.lost) <= 18
    assert {bad.name for bad in source.lost.values()} == {f"an image in {tmp_path}/train-1.parquet"}
