"""Embeddings of any tool: `.npz` or Parquet with `path` (or `index`) and `embedding`.

`--mode=embed` writes such files. A row belongs to the image whose path ends in the row's, so paths
may be absolute, or relative to the data set's folder or to one above it.
"""

import hashlib
import io
import os
import posixpath
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from ifnd_tf.data.contents import counted, named
from ifnd_tf.errors import UserError, did_you_mean_path

SUFFIXES = (".npz", ".parquet")
# Flag -> its spellings that are no path.
WORDS = {"detect_with": ("encoder", "keys")}
_FORM = "path (text) or index (integers), and embedding (floats [n, D])"


class Rows(NamedTuple):
    """The embeddings of N examples.

    Attributes:
        points: float32 [N, D], unit vectors; zeros where there is none.
        identity: of their origin: what a run that goes on must find again.
        notes: rows that are missing, doubled, extra or unusable, in words.
    """

    points: np.ndarray
    identity: str
    notes: str = ""

    @property
    def known(self) -> np.ndarray:
        """bool [N]: which examples have a row."""
        return np.any(self.points != 0, axis=1)


def check_name(flag: str, text: str) -> None:
    """Raises `UserError` for a spelling or a path on this machine's disk that cannot be right.

    Args:
        flag: one of `WORDS`.
        text: as the user wrote it.
    """
    path, words = os.path.expanduser(text), WORDS[flag]
    if text in words or "://" in path:
        return
    if path.lower().endswith(SUFFIXES) and os.path.isfile(path):
        return
    if any(os.path.isfile(os.path.join(path, f"saved_model.{end}")) for end in ("pb", "pbtxt")):
        return
    wanted = "".join(f"{word}, " for word in filter(None, words))
    received = "which is not there"
    if os.path.isdir(path):
        received = "a folder without saved_model.pb"
    elif os.path.isfile(path):
        received = "a file of another kind"
    raise UserError(
        f"--{flag}: expected {wanted}a file of embeddings ({' or '.join(SUFFIXES)}), or the "
        f"directory of a SavedModel. Received: {text!r}, {received}."
        f"{'' if os.path.exists(path) else did_you_mean_path(path)}"
    )


def is_file(text: str) -> bool:
    """Whether a flag's value names a file of embeddings rather than a SavedModel."""
    return text.lower().endswith(SUFFIXES)


def identity(path: str) -> str:
    """A hash of a file; of a SavedModel's graph and of its variables' checksums."""
    files = [path]
    if not is_file(path):
        files = [f"{path}/{name}" for name in ("saved_model.pb", "variables/variables.index")]
    digest = hashlib.sha256()
    for name in files:
        try:
            with _open(name) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:  # a SavedModel need not have variables
            continue
    return digest.hexdigest()


def read(flag: str, path: str, names: Sequence[str], readable: np.ndarray) -> Rows:
    """Reads a file and finds each example's row.

    Args:
        flag: that named the file, for messages.
        path: the file, on disk or gs://.
        names: of the N examples, their paths or ids.
        readable: int [m], the examples that should have a row.

    Raises:
        UserError: if the file is not what its suffix says, lacks a column, holds rows of several
            widths, or has no row for any example.
    """
    path = os.path.expanduser(path)
    columns = _columns(flag, path)
    values = columns["embedding"]
    by_path = "path" in columns
    keys = columns["path" if by_path else "index"]
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "fiu":
        raise _wrong(flag, path, f"embedding of shape {list(values.shape)} and type {values.dtype}")
    if len(keys) != len(values) or keys.ndim != 1 or keys.dtype.kind not in "OUSiu":
        raise _wrong(flag, path, f"{len(keys)} keys of type {keys.dtype} for {len(values)} rows")
    shown = [text.decode() if isinstance(text, bytes) else str(text) for text in keys.tolist()]
    place = _by_path(flag, path, shown, names) if by_path else _by_index(keys, len(names))
    if not np.any(place >= 0):
        raise UserError(
            f"--{flag}={path}: expected rows of the training images, such as {named(names[:2])}. "
            f"Received: {counted(len(shown), 'row')} of others, such as {named(shown[:2])}; make "
            "the paths relative to the data set's folder."
        )
    points = np.zeros([len(names), values.shape[1]], np.float32)
    # The first row of an example counts.
    found, first = np.unique(place, return_index=True)
    found, first = found[found >= 0], first[found >= 0]
    points[found] = values[first]
    length = np.linalg.norm(points, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 0)
    points = np.where(usable, points / np.where(usable, length, 1.0), 0.0)
    notes = {
        "without a row": [names[int(i)] for i in np.setdiff1d(readable, found)],
        "with NaN, infinity or zeros alone in the row": [
            names[int(i)] for i in found[~usable[found, 0]]
        ],
        "with a second row, which is left out": [
            shown[row] for row in np.setdiff1d(np.flatnonzero(place >= 0), first)
        ],
    }
    said = [f"{counted(len(x), 'image')} {words} ({named(x)})" for words, x in notes.items() if x]
    if others := [shown[row] for row in np.flatnonzero(place < 0)]:
        said.append(f"{counted(len(others), 'row')} of no training image ({named(others)})")
    return Rows(points, identity(path), "; ".join(said))


def _open(path: str) -> IO[bytes]:
    if "://" not in path:
        return open(path, "rb")
    import tensorflow as tf

    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(path)
    return io.BytesIO(tf.io.gfile.GFile(path, "rb").read())


def _wrong(flag: str, path: str, received: object) -> UserError:
    return UserError(
        f"--{flag}={path}: expected {_FORM}, in the format that the suffix says. Received: "
        f"{received}; write the file again."
    )


def _columns(flag: str, path: str) -> dict[str, np.ndarray]:
    """The arrays "embedding" and "path" or "index" of a file, as they are stored."""
    import pyarrow

    damaged = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
    reading = _parquet if path.lower().endswith(".parquet") else _npz
    try:
        with _open(path) as file:
            return reading(file)
    except (*damaged, pyarrow.ArrowException) as error:
        raise _wrong(flag, path, str(error).splitlines()[0]) from error


def _chosen(names: Sequence[str]) -> list[str]:
    """The columns to read."""
    key = next((name for name in ("path", "index") if name in names), None)
    if key is None or "embedding" not in names:
        raise ValueError(f"the columns {', '.join(names) or 'none'}")
    return [key, "embedding"]


def _npz(file: IO[bytes]) -> dict[str, np.ndarray]:
    packed: Any = np.load(file)  # never unpickles
    if isinstance(packed, np.ndarray):
        raise ValueError("one array without names")
    return {name: packed[name] for name in _chosen(packed.files)}


def _parquet(file: IO[bytes]) -> dict[str, np.ndarray]:
    import pyarrow.parquet

    stored = pyarrow.parquet.ParquetFile(file)
    key, column = _chosen(stored.schema_arrow.names)
    table = stored.read([key, column])
    return {key: table[key].to_numpy(), column: _matrix(table[column])}


def _matrix(column: Any) -> np.ndarray:
    """A column of lists as [n, D]; NaN in rows of null."""
    import pyarrow
    import pyarrow.compute

    kind = column.type
    if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
            or pyarrow.types.is_fixed_size_list(kind)):  # fmt: skip
        raise ValueError(f"embedding of type {kind}")
    lengths = pyarrow.compute.list_value_length(column).fill_null(-1).to_numpy()
    widths = np.unique(lengths[lengths >= 0]).tolist()
    if len(widths) != 1:
        raise ValueError(f"rows of widths {', '.join(map(str, widths[:5])) or 'none'}")
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    matrix = np.full([len(lengths), widths[0]], np.nan, np.float32)
    matrix[lengths >= 0] = np.concatenate(flat).reshape(-1, widths[0])
    return matrix


def _by_index(keys: np.ndarray, count: int) -> np.ndarray:
    """int [n]: the example of each row, -1 for none."""
    if keys.dtype.kind not in "iu":
        return np.full(len(keys), -1)
    return np.where((keys >= 0) & (keys < count), keys, -1).astype(np.int64)


def _by_path(flag: str, path: str, keys: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """int [n]: the example whose path ends in each row's, -1 for none."""
    wanted = [posixpath.normpath(key) for key in keys]
    parts = [os.path.abspath(name).split("/") for name in names]
    place = np.full(len(keys), -1)
    for depth in {key.count("/") + 1 for key in wanted}:
        ends: dict[str, int] = {}
        for index, each in enumerate(parts):
            end = "/".join(each[-depth:])
            ends[end] = index if end not in ends else -2
        for row, key in enumerate(wanted):
            if key.count("/") + 1 == depth:
                place[row] = ends.get(key, -1)
    if len(several := np.flatnonzero(place == -2)):
        raise UserError(
            f"--{flag}={path}: expected paths that tell the images apart. Received: "
            f"{named([keys[several[0]]])}, in which several images' paths end; make the paths "
            "relative to the data set's folder."
        )
    return place
