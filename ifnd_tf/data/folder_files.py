"""Finds the image files below a folder, and counts everything else that lies there."""

import array
import collections
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import Note, named, printable
from ifnd_tf.data.image_formats import (
    ARCHIVES,
    FORMAT_BY_EXTENSION,
    HIDDEN,
    NO_IMAGES,
    RAW,
    SIGNATURE_BYTES,
    format_of,
    missing_plugin,
    readable_extensions,
)
from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.run.words import counted

# Extensions of programs, of which a folder of photos holds few.
_CODE = {
    ".py", ".ipynb", ".js", ".ts", ".c", ".cc", ".cpp", ".h", ".java", ".go", ".rs", ".rb", ".sh",
}  # fmt: skip
_CODE_SHARE = 0.1
# Most extensions to name of files that are not read.
_KINDS = 8
# Images between two calls of `progress`.
_BETWEEN_COUNTS = 1000
# A folder with this file is a run directory, whose pictures are no data.
_RUN_FILE = "config.flags"


class FolderFiles(NamedTuple):
    """The images below a folder, and notes on what else lies there.

    Attributes:
        paths: of the images, relative to the folder, sorted.
        sizes: int64, bytes of each; -1 on gs://.
        notes: the files and folders that are not used.
        linked: whether there are links among them, so that an image may have two paths.
    """

    paths: list[str]
    sizes: np.ndarray
    notes: list[Note]
    linked: bool


def find_files(
    name: str,
    root: str,
    workdir: str = "",
    progress: Count = uncounted,
) -> FolderFiles:
    """Walks through a folder.

    Hidden files and folders are skipped in silence; links to folders are followed, each folder
    once.

    Args:
        name: how the user named the data set.
        root: the folder.
        workdir: the run's own folder, which is no data, as any other run directory.
        progress: called now and then with the number of images found, and 0.

    Raises:
        UserError: if the folder is missing, cannot be read or holds no image.
    """
    if not tf.io.gfile.isdir(root):
        raise UserError(
            f"--dataset={name}: expected a folder. Received: {root}, which is not one."
            f"{did_you_mean_path(root)}"
        )
    walk = _Walk(root, workdir)
    paths, sizes = [], array.array("q")
    for path, size in walk.images(""):
        paths.append(path)
        sizes.append(size)
        if not len(paths) % _BETWEEN_COUNTS:
            progress(len(paths), 0)
    if walk.unreadable.get(""):
        raise UserError(
            f"--dataset={name}: expected folders that can be read. Received: {walk.unreadable['']}."
        )
    if not paths:
        held = walk.others_text()
        archive = any(extension in ARCHIVES for extension in walk.others)
        raise UserError(
            f"--dataset={name}: expected image files ({', '.join(readable_extensions())}) in "
            f"{root} or its subfolders. Received: none{f', but {held}' if held else ''}."
            f"{' Unpack the archive and name the folder.' if archive else ''}"
        )
    code = _code_note(root, paths, sum(walk.others[extension] for extension in _CODE))
    found = np.array(paths, object)
    order = np.argsort(found, kind="stable")
    in_order = found[order].tolist(), np.array(sizes)[order]
    return FolderFiles(*in_order, [*code, *walk.notes()], walk.linked)


def _code_note(root: str, paths: Sequence[str], programs: int) -> list[Note]:
    """A note on a folder of code, whose images are hardly those to train on."""
    if programs <= _CODE_SHARE * len(paths):
        return []
    text = f"{root} looks like a folder of code: {counted(programs, 'program')} beside "
    text += counted(len(paths), "image")
    if folder := os.path.commonpath([os.path.dirname(path) for path in paths]):
        where = printable(os.path.join(root, folder))
        text += f", all below {where}; for those alone, --dataset=folder:{where}"
    return [Note("code_folder", programs, text)]


class _Walk:
    """One pass through the folders, which counts what is no image."""

    def __init__(self, root: str, workdir: str):
        self._root = root
        self._seen = {_real(folder) for folder in (root, workdir) if folder}
        above = _real(root)
        while above not in ("", "/"):  # a link to a folder around this one leads back into it
            above = os.path.dirname(above)
            self._seen.add(above)
        self.others: collections.Counter[str] = collections.Counter()
        self.unreadable: dict[str, str] = {}
        self._irregular: list[str] = []
        self._runs: list[str] = []
        self.linked = False

    def images(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Pairs of path and size of the images in a folder and those below it."""
        folders = []
        try:
            entries = sorted(self._entries(prefix), key=lambda entry: entry.name)
        except (OSError, tf.errors.OpError) as error:
            self.unreadable[prefix] = getattr(error, "strerror", None) or str(error)
            return
        if prefix and any(entry.name == _RUN_FILE for entry in entries):
            self._runs.append(prefix)
            return
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith(HIDDEN):
                continue
            try:
                self.linked |= entry.is_symlink()
                if entry.is_dir():
                    folders.append(path + "/")
                elif not entry.is_file():
                    self._irregular.append(path)
                elif self._is_image(path):
                    yield path, entry.stat().st_size
                else:
                    self.others[os.path.splitext(path)[1].lower()] += 1
            except OSError:  # a link to itself, or into a folder that may not be entered
                self._irregular.append(path)
        for folder in folders:
            real = _real(os.path.join(self._root, folder))
            if real not in self._seen:
                self._seen.add(real)
                yield from self.images(folder)

    def _entries(self, prefix: str) -> list[Any]:
        folder = os.path.join(self._root, prefix)
        if _remote(folder):
            return [_RemoteEntry(folder, name.rstrip("/")) for name in tf.io.gfile.listdir(folder)]
        with os.scandir(folder) as entries:
            return list(entries)

    def _is_image(self, path: str) -> bool:
        """Decides by the extension where it is known, else by the first bytes."""
        extension = os.path.splitext(path)[1].lower()
        if extension in readable_extensions():
            return True
        if extension in NO_IMAGES or extension in FORMAT_BY_EXTENSION:
            return False
        try:
            with tf.io.gfile.GFile(os.fsencode(os.path.join(self._root, path)), "rb") as file:
                kind = format_of(file.read(SIGNATURE_BYTES))
        except tf.errors.OpError:
            return False
        return bool(kind) and not missing_plugin(kind)

    def others_text(self) -> str:
        """The files that are no images, by extension."""
        texts = []
        for extension, count in self.others.most_common(_KINDS):
            package = missing_plugin(FORMAT_BY_EXTENSION.get(extension, ""))
            hint = f" (pip install {package})" if package else ""
            hint = " (raw: export them as JPEG)" if extension in RAW else hint
            texts.append(f"{count:,} {extension or 'without extension'}{hint}")
        rest = self.others.total() - sum(count for _, count in self.others.most_common(_KINDS))
        return ", ".join([*texts, *([f"{rest:,} of other kinds"] if rest else [])])

    def notes(self) -> Iterator[Note]:
        """The files and folders that are not used, by kind."""
        if self.others:
            count = sum(self.others.values())
            yield Note(
                "other_files", count, f"{counted(count, 'file')} not read: {self.others_text()}"
            )
        for kind, one, several, names in (
            ("unreadable_folders", "folder without permission to read",
             "folders without permission to read", list(self.unreadable)),
            ("not_regular", "entry that is no readable file or folder",
             "entries that are no readable files or folders", self._irregular),
            ("run_directories", "run directory left out", "run directories left out", self._runs),
        ):  # fmt: skip
            if names:
                text = f"{counted(len(names), one, several)}: {named(names)}"
                yield Note(kind, len(names), text)


class _RemoteEntry(NamedTuple):
    """A name on a remote disk, with the methods of `os.DirEntry`."""

    folder: str
    name: str
    st_size: int = -1

    def is_dir(self) -> bool:
        # Asking would cost a request for each name, so an image's extension is trusted.
        path = os.path.join(self.folder, self.name)
        return not path.lower().endswith(readable_extensions()) and tf.io.gfile.isdir(path)

    def is_file(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    def stat(self) -> "_RemoteEntry":
        return self


def _remote(path: str) -> bool:
    return "://" in path


def _real(path: str) -> str:
    return path.rstrip("/") if _remote(path) else os.path.realpath(path)
