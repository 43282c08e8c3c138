"""The columns of a file of embeddings, `.npz` or Parquet, as they are stored."""

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np

from ifnd_tf.errors import UserError

_FORM = "path (text) or index (integers), and embedding (floats [n, D])"


def read_columns(flag: str, path: str) -> dict[str, np.ndarray]:
    """The arrays "embedding" [n, D], "path" or "index" [n] and perhaps "size" [n] of a file.

    Raises:
        UserError: if the file is not what its suffix says, lacks a column, or holds rows of
            several widths; it names the flag.
    """
    import pyarrow

    damaged = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
    reading = _parquet if path.lower().endswith(".parquet") else _npz
    try:
        with open_file(path) as file:
            return reading(file)
    except (*damaged, pyarrow.ArrowException) as error:
        raise wrong(flag, path, str(error).splitlines()[0]) from error


def table(flag: str, path: str) -> tuple[np.ndarray, np.ndarray, bool, np.ndarray]:
    """Keys [n], rows [n, D], whether the keys are paths, and sizes [n], -1 where not known.

    Raises:
        UserError: as `read_columns`, and for columns of other shapes or types.
    """
    columns = read_columns(flag, path)
    values = columns["embedding"]
    by_path = "path" in columns
    keys = columns["path" if by_path else "index"]
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "fiu":
        raise wrong(flag, path, f"embedding of shape {list(values.shape)} and type {values.dtype}")
    if not len(keys):
        raise wrong(flag, path, "no row")
    if len(keys) != len(values) or keys.ndim != 1 or keys.dtype.kind not in "OUSiu":
        raise wrong(flag, path, f"{len(keys)} keys of type {keys.dtype} for {len(values)} rows")
    sizes = columns.get("size", np.full(len(keys), -1))
    if sizes.shape != keys.shape or sizes.dtype.kind not in "iu":
        raise wrong(flag, path, f"size of shape {list(sizes.shape)} and type {sizes.dtype}")
    return keys, values, by_path, sizes.astype(np.int64)


def _chosen(names: Sequence[str]) -> list[str]:
    """The columns to read."""
    key = next((name for name in ("path", "index") if name in names), None)
    if key is None or "embedding" not in names:
        raise ValueError(f"the columns {', '.join(names) or 'none'}")
    return [key, "embedding", *(["size"] if "size" in names else [])]


def _npz(file: IO[bytes]) -> dict[str, np.ndarray]:
    packed: Any = _unpickled("contents of another kind", np.load, file)
    if isinstance(packed, np.ndarray):
        raise ValueError("one array without names")
    objects = "a column of Python objects, which are not read (text: np.array(paths, str))"
    return {n: _unpickled(objects, packed.__getitem__, n) for n in _chosen(packed.files)}


def _unpickled(otherwise: str, load: Callable, *args) -> Any:
    """Calls a loader of NumPy, which never unpickles; `otherwise` is the error of pickled data."""
    try:
        return load(*args)
    except ValueError as error:
        raise ValueError(otherwise if "pickle" in str(error) else str(error)) from error


def _parquet(file: IO[bytes]) -> dict[str, np.ndarray]:
    import pyarrow.parquet

    stored = pyarrow.parquet.ParquetFile(file)
    names = _chosen(stored.schema_arrow.names)
    table = stored.read(names)
    return {n: _matrix(table[n]) if n == "embedding" else table[n].to_numpy() for n in names}


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


def open_file(path: str) -> IO[bytes]:
    """A file on disk or gs://, to be read."""
    if "://" not in path:
        return open(path, "rb")
    import tensorflow as tf

    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(path)
    return io.BytesIO(tf.io.gfile.GFile(path, "rb").read())


def wrong(flag: str, path: str, received: object) -> UserError:
    """The error for a file that does not hold the expected columns."""
    return UserError(
        f"--{flag}={path}: expected {_FORM}, in the format that the suffix says. Received: "
        f"{received}; write the file again."
    )
