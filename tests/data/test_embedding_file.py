"""Files of embeddings: rows find their images, and what is wrong with a file is named."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ifnd_tf.data import embedding_file
from ifnd_tf.errors import UserError

NAMES = [f"photos/train/{group}/{number}.jpg" for group in "ab" for number in range(3)]
READABLE = np.arange(6)
VALUES = np.random.default_rng(0).normal(size=[6, 4]).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """Of unit length, then less their mean, then of unit length."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


UNIT = unit(VALUES)


def write(file, embedding=VALUES, **keys) -> str:
    columns = {name: np.asarray(value) for name, value in keys.items()} | {"embedding": embedding}
    if file.suffix == ".npz":
        np.savez(file, **columns)
    else:
        lists = {n: pyarrow.array(list(v) if n == "embedding" else v) for n, v in columns.items()}
        pyarrow.parquet.write_table(pyarrow.table(lists), file)
    return str(file)


def read(path, readable=READABLE) -> embedding_file.Rows:
    return embedding_file.read("detect_with", path, NAMES, readable)


@pytest.mark.parametrize("name", ["rows.npz", "rows.parquet"])
def test_rows_find_their_images_by_path_in_any_order(tmp_path, name):
    order = np.random.default_rng(1).permutation(6)
    for start in ("", "train/", "photos/train/", "./train/"):
        paths = [start + NAMES[i].removeprefix("photos/train/") for i in order]
        found = read(write(tmp_path / name, VALUES[order], path=paths))
        np.testing.assert_allclose(found.points, UNIT, rtol=1e-5)
        assert not found.notes and found.known.all()


def test_paths_of_windows_serve_where_no_image_has_a_backslash(tmp_path):
    paths = [name.removeprefix("photos/").replace("/", "\\") for name in NAMES]
    found = read(write(tmp_path / "rows.npz", path=paths))
    np.testing.assert_allclose(found.points, UNIT, rtol=1e-5)
    odd = ["a\\0.jpg", "0.jpg"]  # two images of Linux
    found = embedding_file.read(
        "teacher", write(tmp_path / "odd.npz", VALUES[:2], path=odd), odd, np.arange(2)
    )
    assert found.known.all() and not found.notes


def test_absolute_paths_and_halves_serve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / name) for name in NAMES]
    found = read(write(tmp_path / "rows.npz", VALUES.astype(np.float16), path=paths))
    np.testing.assert_allclose(found.points, UNIT, atol=2e-3)


@pytest.mark.parametrize("name", ["rows.npz", "rows.parquet"])
def test_missing_doubled_extra_and_unusable_rows_are_counted_and_named(tmp_path, name):
    values = VALUES[[0, 1, 2, 3, 0, 4]].copy()
    values[1, 2], values[2] = np.nan, 0.0
    paths = ["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/7.jpg", "a/0.jpg", "b/1.jpg"]
    found = read(write(tmp_path / name, values, path=paths), np.array([0, 1, 2, 3, 5]))
    assert np.flatnonzero(found.known).tolist() == [0, 4]
    np.testing.assert_allclose(found.points[[0, 4]], unit(VALUES[[0, 4]]), rtol=1e-5)
    words = [
        "2 images without a row (photos/train/b/0.jpg, photos/train/b/2.jpg)",
        "2 images with NaN, infinity or zeros alone in the row (photos/train/a/1.jpg, "
        "photos/train/a/2.jpg)",
        "1 image with a second row, which is left out (a/0.jpg)",
        "1 row of no image of the data (b/7.jpg)",
    ]
    kinds = [("no_row", 2), ("unusable_row", 2), ("second_row", 1), ("other_row", 1)]
    assert [(note.kind, note.number) for note in found.notes] == kinds
    for note, text in zip(found.notes, words, strict=True):
        assert note.text == f"--detect_with={tmp_path / name}: {text}"


@pytest.mark.parametrize("name", ["rows.npz", "rows.parquet"])
def test_rows_find_their_images_by_index(tmp_path, name):
    found = read(write(tmp_path / name, VALUES[:3], index=[4, 0, 9]))
    assert np.flatnonzero(found.known).tolist() == [0, 4]
    np.testing.assert_allclose(found.points[[4, 0]], unit(VALUES[:2]), rtol=1e-5)
    assert "1 row of no image of the data (9)" in found.notes[-1].text


def test_rows_of_images_that_are_evaluated_on_are_no_others(tmp_path):
    path = write(tmp_path / "rows.npz", VALUES[:4], path=[*NAMES[:2], "test/a/0.jpg", "x.jpg"])
    found = embedding_file.read(
        "teacher", path, NAMES, np.arange(2), ["photos/test/a/0.jpg", "photos/test/a/1.jpg"]
    )
    (note,) = found.notes
    assert note.text == f"--teacher={path}: 1 row of no image of the data (x.jpg)"


@pytest.mark.parametrize("name", ["rows.npz", "rows.parquet"])
def test_rows_of_other_files_of_the_same_names_are_told_by_their_size(tmp_path, name):
    path = write(tmp_path / name, VALUES[:3], path=["a/0.jpg", "a/1.jpg", "b/0.jpg"],
                 size=[10, 11, -1])  # fmt: skip
    known = np.arange(3)

    def read_with(sizes):
        return embedding_file.read("teacher", path, NAMES[:4], known, sizes=lambda: np.array(sizes))

    assert [note.kind for note in read_with([10, 11, 5, 5]).notes] == ["no_row"]
    assert [note.kind for note in read_with([-1, -1, 5, 5]).notes] == ["no_row"]
    found = read_with([10, 99, 5, 5])
    assert np.flatnonzero(found.known).tolist() == [0, 3]
    assert [note.kind for note in found.notes] == ["no_row", "other_file"]
    assert "1 row of a file of that name and another size, which is left out (a/1.jpg)" in (
        found.notes[1].text
    )
    path = write(tmp_path / name, VALUES[:2], path=["a/0.jpg", "a/1.jpg"], size=[10, 11])
    with pytest.raises(UserError, match="same names and other sizes, such as a/0.jpg: of another"):
        read_with([7, 8, 9, 9])
    write(tmp_path / name, VALUES[:2], path=["a/0.jpg", "a/1.jpg"], size=[0.5, 1.5])
    with pytest.raises(UserError, match="size of shape .2. and type float64"):
        read_with([7, 8, 9, 9])


def test_a_row_of_null_counts_as_missing(tmp_path):
    rows = pyarrow.array([None if i == 2 else row for i, row in enumerate(VALUES.tolist())])
    table = pyarrow.table({"path": NAMES, "embedding": rows})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    found = read(str(tmp_path / "rows.parquet"))
    assert np.flatnonzero(~found.known).tolist() == [2]


BAD = {
    "no_row": ({"path": [f"x/{i}.jpg" for i in range(6)]}, "expected rows of the images"),
    "same_names": ({"path": ["0.jpg", *NAMES[1:]]}, "paths that tell the images apart.*0.jpg"),
    "no_key": ({"name": NAMES}, "Received: the columns name, embedding"),
    "few_keys": ({"path": NAMES[:5]}, "5 keys of type .* for 6 rows"),
    "flat": ({"path": NAMES, "embedding": VALUES[:, 0]}, r"embedding of shape \[6\]"),
    "narrow": ({"path": NAMES, "embedding": VALUES[:, :1]}, r"embedding of shape \[6, 1\]"),
    "nan": ({"path": NAMES, "embedding": VALUES * np.nan}, "6 rows of NaN, .* or all the same"),
    "same": ({"path": NAMES, "embedding": np.ones_like(VALUES)}, "rows that tell images apart"),
    "empty": ({"path": np.array([], str), "embedding": VALUES[:0]}, "Received: no row"),
    "text": ({"path": NAMES, "embedding": VALUES.astype(str)}, "type <U"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, case):
    columns, message = BAD[case]
    path = write(tmp_path / "rows.npz", **{"embedding": VALUES, **columns})
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value) and f"--detect_with={path}" in str(error.value)


def test_rows_of_several_widths_are_refused(tmp_path):
    rows = pyarrow.array([[1.0, 2.0], [1.0, 2.0, 3.0]])
    pyarrow.parquet.write_table(
        pyarrow.table({"path": NAMES[:2], "embedding": rows}), tmp_path / "rows.parquet"
    )
    with pytest.raises(UserError, match="rows of widths 2, 3"):
        read(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("content", ["text", "npy", "objects", "cut", "other"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path, content):
    path = tmp_path / ("rows.parquet" if content == "other" else "rows.npz")
    if content == "text":
        path.write_text("path,embedding\n")
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, VALUES)
    elif content == "objects":  # which would have to be unpickled
        np.savez(path, path=np.array(NAMES, object), embedding=VALUES)
    elif content == "cut":
        write(path, path=NAMES)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes(b"PK\x03\x04 an archive")
    with pytest.raises(UserError, match="in the format that the suffix says. Received: ") as error:
        read(str(path))
    words = {"text": "contents of another kind", "objects": "Python objects"}
    assert words.get(content, "") in str(error.value) and "pickle" not in str(error.value)


def test_a_huge_row_has_a_direction_too(tmp_path):
    values = VALUES.astype(np.float64)
    values[1] *= 1e200
    values[2] *= 1e25  # whose square is too large
    found = read(write(tmp_path / "rows.npz", values, path=NAMES))
    np.testing.assert_allclose(found.points, UNIT, rtol=1e-5)
    assert not found.notes


def test_the_spelling_is_checked_before_anything_is_read(tmp_path):
    embedding_file.check_name("detect_with", "keys")
    embedding_file.check_name("detect_with", write(tmp_path / "rows.npz", path=NAMES))
    (tmp_path / "model").mkdir()
    for text, received in (
        (str(tmp_path / "row.npz"), "is not there"),
        (str(tmp_path / "model"), "a folder without saved_model.pb"),
        (__file__, "a file of another kind"),
        ("key", "is not there"),
    ):
        with pytest.raises(UserError, match=f"--detect_with: expected encoder, keys, .*{received}"):
            embedding_file.check_name("detect_with", text)
    (tmp_path / "model" / "saved_model.pb").touch()
    embedding_file.check_name("detect_with", str(tmp_path / "model"))


def test_the_identity_follows_the_content(tmp_path):
    first = embedding_file.identity(write(tmp_path / "one.npz", path=NAMES))
    assert first == embedding_file.identity(write(tmp_path / "two.npz", path=NAMES))
    assert first != embedding_file.identity(write(tmp_path / "three.npz", 2 * VALUES, path=NAMES))
