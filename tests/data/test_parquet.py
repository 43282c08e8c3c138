"""Parquet files as Hugging Face writes them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ifnd_tf.data import datasets, decode, eval_batches, recipes, train_batches
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
    for part in range(2):
        write(tmp_path / f"train-{part}.parquet", range(10 * part, 10 * part + 10))
    source = opened(tmp_path, holdout_share=0.0).train
    (tmp_path / "train-1.parquet").unlink()
    scan(source, max_corrupt_share=0.5)
    assert [bad.index for bad in source.unreadable] == list(range(10, 20))
    assert source.unreadable[0].name == "train-1.parquet__0"


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
