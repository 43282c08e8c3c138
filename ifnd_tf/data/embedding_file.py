"""Embeddings of any tool: `.npz` or Parquet with `path` (or `index`) and `embedding`.

`--mode=embed` writes such files, with the `size` in bytes of each image's file. A row belongs to
the image whose path ends in the row's, so paths may be absolute, or relative to the data set's
folder or to one above it. Windows' backslashes are taken for slashes where no image's path has one.
"""

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ifnd_tf.data import embedding_columns
from ifnd_tf.data.contents import Note, named
from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run.files import is_saved_model
from ifnd_tf.run.words import counted

SUFFIXES = (".npz", ".parquet")
# Flag -> its spellings that are no path.
WORDS = {"detect_with": ("encoder", "keys"), "teacher": ("",), "embeddings": ("",)}
# Flags that also name a SavedModel.
MODELS = ("detect_with", "teacher")
# In place of an example's index: the row fits none, or several.
_NONE, _SEVERAL = -1, -2
Sizes = Callable[[], np.ndarray]


class Rows(NamedTuple):
    """The embeddings of N examples.

    Attributes:
        points: float32 [N, D], see `centred`; zeros where there is none.
        identity: hash of their origin, which a resumed run must find unchanged.
        notes: on rows that are missing, doubled, extra or unusable.
    """

    points: np.ndarray
    identity: str
    notes: tuple[Note, ...] = ()

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
    if flag in MODELS and is_saved_model(path):
        return
    wanted = "".join(f"{word}, " for word in filter(None, words))
    received = "which is not there"
    if os.path.isdir(path):
        received = "a folder without saved_model.pb" if flag in MODELS else "a folder"
    elif os.path.isfile(path):
        received = "a file of another kind"
    raise UserError(
        f"--{flag}: expected {wanted}a file of embeddings ({' or '.join(SUFFIXES)})"
        f"{', or the directory of a SavedModel' if flag in MODELS else ''}. Received: {text!r}, "
        f"{received}.{'' if os.path.exists(path) else did_you_mean_path(path)}"
    )


def is_file(text: str) -> bool:
    """Whether a flag's value names a file of embeddings rather than a SavedModel."""
    return text.lower().endswith(SUFFIXES)


def identity(path: str) -> str:
    """A hash of a file of embeddings, or of a SavedModel's graph and its variables' checksums."""
    path = os.path.expanduser(path)
    files = [path]
    if not is_file(path):
        files = [f"{path}/{name}" for name in ("saved_model.pb", "variables/variables.index")]
    digest = hashlib.sha256()
    for name in files:
        try:
            with embedding_columns.open_file(name) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:  # a SavedModel need not have variables
            continue
    return digest.hexdigest()


def read(
    flag: str,
    path: str,
    names: Sequence[str],
    readable: np.ndarray,
    others: Sequence[str] = (),
    sizes: Sizes | None = None,
) -> Rows:
    """Reads a file and finds each example's row.

    Args:
        flag: that named the file, for messages.
        path: the file, on disk or gs://.
        names: of the N examples, their paths or ids.
        readable: int [m], the examples that should have a row.
        others: names of further examples that may have rows; these are not used.
        sizes: called if rows have a "size": int64 [N], bytes of the examples' files, -1 where that
            is not known; a row of another size belongs to another file of the same name.

    Raises:
        UserError: if the file is not what its suffix says, lacks a column, holds rows of several
            widths, or has no row for any example.
    """
    path = os.path.expanduser(path)
    keys, values, by_path, stored = embedding_columns.table(flag, path)
    shown = [os.fsdecode(text) if isinstance(text, bytes) else str(text) for text in keys.tolist()]
    place = _by_path(shown, names) if by_path else _by_index(keys, len(names))
    _check_placed(f"--{flag}={path}", place, shown, names)
    foreign = _of_other_files(place, stored, sizes)
    if np.any(foreign) and np.all(foreign[place >= 0]):
        raise UserError(
            f"--{flag}={path}: expected rows of these images. Received: rows of the same names and "
            f"other sizes, such as {named([shown[np.argmax(foreign)]])}: of another data set."
        )
    place[foreign] = _NONE
    points = np.zeros([len(names), values.shape[1]], np.float32)
    # The first row of an example counts.
    found, first = np.unique(place, return_index=True)
    found, first = found[found >= 0], first[found >= 0]
    points[found] = _small(values[first])
    usable = centred(points)
    if not np.any(usable):
        raise UserError(
            f"--{flag}={path}: expected rows that tell images apart. Received: "
            f"{counted(len(found), 'row')} of NaN, infinity or zeros alone, or all the same."
        )
    unknown = np.flatnonzero((place < 0) & ~foreign)
    if by_path and others:
        unknown = unknown[_by_path([shown[row] for row in unknown], others) == _NONE]
    doubled = np.setdiff1d(np.flatnonzero(place >= 0), first)
    kinds = (
        ("no_row", "image", "without a row", names, np.setdiff1d(readable, found)),
        ("unusable_row", "image", "with NaN, infinity or zeros alone in the row", names,
         found[~usable[found]]),
        ("second_row", "image", "with a second row, which is left out", shown, doubled),
        ("other_row", "row", "of no image of the data", shown, unknown),
        ("other_file", "row", "of a file of that name and another size, which is left out", shown,
         np.flatnonzero(foreign)),
    )  # fmt: skip
    return Rows(points, identity(path), tuple(_notes(f"--{flag}={path}", kinds)))


def _check_placed(
    given: str, place: np.ndarray, shown: Sequence[str], names: Sequence[str]
) -> None:
    """Raises `UserError` if a row fits several examples, or no row fits any."""
    if len(several := np.flatnonzero(place == _SEVERAL)):
        raise UserError(
            f"{given}: expected paths that tell the images apart. Received: "
            f"{named([shown[several[0]]])}, in which several images' paths end; make the paths "
            "relative to the data set's folder."
        )
    if not np.any(place >= 0):
        raise UserError(
            f"{given}: expected rows of the images, such as {named(names[:2])}. "
            f"Received: {counted(len(shown), 'row')} of others, such as {named(shown[:2])}; make "
            "the paths relative to the data set's folder."
        )


def _of_other_files(place: np.ndarray, stored: np.ndarray, sizes: Sizes | None) -> np.ndarray:
    """bool [n]: rows whose "size" differs from that of their example's file; see `read`."""
    if sizes is None or not np.any(stored >= 0):
        return np.zeros(len(place), bool)
    expected = sizes()[np.maximum(place, 0)]
    return (place >= 0) & (stored >= 0) & (expected >= 0) & (stored != expected)


def _small(rows: np.ndarray) -> np.ndarray:
    """Rows as float32; those whose squares overflow are scaled down: only the direction counts."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = rows.astype(np.float32)
        large = ~np.isfinite(np.linalg.norm(found, axis=1))
        found[large] = rows[large] / np.abs(rows[large]).max(axis=1, keepdims=True)
    return found


def _notes(start: str, kinds: Iterable[tuple[str, str, str, Any, np.ndarray]]) -> Iterator[Note]:
    """A note for each (kind, noun, words, names, places among the names) that has places."""
    for kind, noun, words, among, places in kinds:
        if len(places):
            some = named(among[int(i)] for i in places)
            yield Note(kind, len(places), f"{start}: {counted(len(places), noun)} {words} ({some})")


def centred(points: np.ndarray) -> np.ndarray:
    """Scales rows to unit length, subtracts their mean and scales them again, in place.

    The part that all images share tells none apart: among EfficientNet-Lite0's embeddings of 3,000
    CIFAR-10 images, 0.551 of the 20 nearest neighbours have the image's class, 0.533 uncentred.

    Args:
        points: float32 [N, D]; rows that are zero or not finite become zeros.

    Returns:
        bool [N]: the rows that are not zeros.
    """
    usable = np.ones(len(points), bool)
    for middle in (False, True):
        if middle:
            points[usable] -= points.sum(0, dtype=np.float64) / max(1, usable.sum())
        length = np.linalg.norm(points, axis=1)
        usable &= np.isfinite(length) & (length > 1e-6 * middle)
        points[~usable] = 0.0
        points[usable] /= length[usable, None]
    return usable


def _by_index(keys: np.ndarray, count: int) -> np.ndarray:
    """int [n]: the example of each row, or _NONE."""
    if keys.dtype.kind not in "iu":
        return np.full(len(keys), _NONE)
    return np.where((keys >= 0) & (keys < count), keys, _NONE).astype(np.int64)


def _by_path(keys: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """int [n]: the example whose path ends in each row's path, or _NONE or _SEVERAL."""
    if not any("\\" in name for name in names):
        keys = [key.replace("\\", "/") for key in keys]
    wanted = [posixpath.normpath(key) for key in keys]
    parts = [os.path.abspath(name).split("/") for name in names]
    place = np.full(len(keys), _NONE)
    for depth in {key.count("/") + 1 for key in wanted}:
        ends: dict[str, int] = {}
        for index, each in enumerate(parts):
            end = "/".join(each[-depth:])
            ends[end] = index if end not in ends else _SEVERAL
        for row, key in enumerate(wanted):
            if key.count("/") + 1 == depth:
                place[row] = ends.get(key, _NONE)
    return place
