"""The files of a data set that are used, and notes on those that are not."""

import gzip
import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

from ifnd_tf.errors import UserError
from ifnd_tf.run.same_state import SameState

_NAMED = 3
_WAY_OUT = (
    "Which images were trained on would not be known any more: restore the files, or begin a new "
    "run in another --workdir."
)


class Note(NamedTuple):
    """Something about the data that its owner should know.

    Attributes:
        kind: outside_splits, other_files, unlabelled, unreadable_folders, not_regular,
            run_directories, unlabelled_split, one_folder or code_folder; of rows of embeddings:
            no_row, unusable_row, second_row or other_row.
        number: of images, files, folders or rows.
        text: a sentence.
    """

    kind: str
    number: int
    text: str


class Contents(NamedTuple):
    """The files (or shards) of a data set, and notes.

    Attributes:
        names: of the files, relative to the data set's folder, sorted.
        sizes: of each in bytes, or the number of its examples; -1 where that is not known.
        notes: what is not used, and how the folders were read.
    """

    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()

    def pack(self) -> bytes:
        """Names and sizes as compressed lines, the same bytes for the same contents."""
        return gzip.compress(self._lines(), compresslevel=6, mtime=0)

    @classmethod
    def unpack(cls, packed: bytes) -> "Contents":
        """The contents that `pack` wrote, without notes, and with names as they are printed."""
        rows = [line.split("\t", 1) for line in gzip.decompress(packed).decode().splitlines()]
        return cls(tuple(name for _, name in rows), tuple(int(size) for size, _ in rows))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names and sizes, in hexadecimal."""
        return hashlib.sha256(self._lines()).hexdigest()

    def _lines(self) -> bytes:
        rows = zip(self.sizes, map(printable, self.names), strict=True)
        return "".join(f"{size}\t{name}\n" for size, name in rows).encode()

    def changes_since(self, before: "Contents") -> str:
        """The files added, removed and changed since, in words; "" for none."""
        old = dict(zip(before.names, before.sizes, strict=True))
        new = {printable(name): size for name, size in zip(self.names, self.sizes, strict=True)}
        kinds = {
            "added": [name for name in new if name not in old],
            "removed": [name for name in old if name not in new],
            "changed": [name for name in new if old.get(name, new[name]) != new[name]],
        }
        return "; ".join(
            f"{len(names):,} {kind} ({named(names)})" for kind, names in kinds.items() if names
        )


def require_same(dataset: str, begun: bytes, now: Contents, where: str) -> None:
    """Raises `UserError` that names the differences if a run would continue with other data.

    Args:
        dataset: how the user named the data set.
        begun: what `Contents.pack` gave when the run was begun; empty for one that is new.
        now: what is there now.
        where: the run directory.
    """
    if not begun or begun == now.pack():
        return
    before = Contents.unpack(begun)
    changes = now.changes_since(before)
    if changes:
        raise UserError(
            f"--dataset={dataset}: expected the {len(before.names):,} files that {where} was "
            f"begun with. Received: {len(now.names):,}; {changes}. {_WAY_OUT}"
        )


def same_data(dataset: str, contents: Contents) -> SameState:
    """The fingerprint of the data, for checkpoints.

    Args:
        dataset: how the user named the data set.
        contents: what is there now.
    """
    return SameState(
        contents.fingerprint,
        f"--dataset={dataset}: expected the data that the checkpoint was trained on. "
        f"Received: other files. {_WAY_OUT}",
    )


def named(names: Iterable[str]) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(map(printable, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")


def printable(path: str) -> str:
    """A path as one line of text: bytes that are no UTF-8 and control characters are escaped."""
    if path.isprintable():  # nearly all, a million times a data set
        return path
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
