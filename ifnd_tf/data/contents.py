"""The files of a data set that are used, and notes on those that are not."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
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
            run_directories, unlabelled_split, one_folder, code_folder, class_not_evaluated or
            class_not_trained; of rows of embeddings:
            no_row, unusable_row, second_row, other_row or other_file.
        number: of images, files, folders or rows.
        text: a sentence.
    """

    kind: str
    number: int
    text: str


class Contents(NamedTuple):
    """The files (or shards) of a data set, and notes.

    Attributes:
        packed: names and sizes as compressed lines; as strings, a million take 200 MB.
        notes: what is not used, and how the folders were read.
    """

    packed: bytes = b""
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(
        cls, names: Iterable[str], sizes: Iterable[int], notes: Iterable[Note] = ()
    ) -> "Contents":
        """The contents of a data set.

        Args:
            names: of the files, relative to the data set's folder, sorted.
            sizes: of each in bytes, or the number of its examples; -1 where that is not known.
            notes: see `Contents`.
        """
        packed = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file,
            io.TextIOWrapper(file, "utf-8", newline="\n") as lines,
        ):
            for name, size in zip(names, sizes, strict=True):
                lines.write(f"{size}\t{printable(name)}\n")
        return cls(packed.getvalue(), tuple(notes))

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each file by its name as it is printed, in order."""
        rows = (line.decode().rstrip("\n").split("\t", 1) for line in self._lines())
        return {name: int(size) for size, name in rows}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names and sizes, in hexadecimal."""
        digest = hashlib.sha256()
        for line in self._lines():
            digest.update(line)
        return digest.hexdigest()

    def _lines(self) -> Iterator[bytes]:
        with gzip.open(io.BytesIO(self.packed)) as file:
            yield from file

    def changes_since(self, before: "Contents") -> str:
        """The files added, removed and changed since, in words; "" for none."""
        old, new = before.sizes, self.sizes
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
        begun: what `Contents.packed` was when the run was begun; empty for one that is new.
        now: what is there now.
        where: the run directory.
    """
    if not begun or begun == now.packed:
        return
    before = Contents(begun)
    try:
        if before.fingerprint == now.fingerprint:
            return
        changes = now.changes_since(before)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"--workdir={where}: expected the names of the data's files in data.tsv.gz. Received: "
            f"{error}; bring the file back, or choose another --workdir."
        ) from error
    if changes:
        raise UserError(
            f"--dataset={dataset}: expected the {len(before.sizes):,} files that {where} was "
            f"begun with. Received: {len(now.sizes):,}; {changes}. {_WAY_OUT}"
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
