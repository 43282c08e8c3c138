"""Image files, found in a folder or named in a list."""

import os
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError, did_you_mean_path

# Between the labels of an image that has several.
SEPARATOR = ";"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


class FileSource(Source):
    """Examples that are image files of their own.

    Args:
        name: how the user named it.
        root: folder to which the paths are relative, if they are.
        paths: N paths.
        labels: `[N]`, -1 where unknown.
        class_names: the classes, by label.
        targets: int8 `[N, C]` of images with several labels each, see `Source`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        paths: Sequence[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        targets: np.ndarray | None = None,
    ):
        super().__init__(name, len(paths), class_names)
        self.targets = targets
        self._paths = np.array([os.path.join(root, path) for path in paths], object)
        self._labels = np.asarray(labels, np.int32)
        self._table: tf.Tensor | None = None

    @property
    def labels(self) -> np.ndarray:
        """int32 `[N]`, -1 where unknown."""
        return self._labels

    def describe(self, index: int) -> str:
        """The file's path."""
        return str(self._paths[index])

    def fetch(self, index: tf.Tensor) -> tf.Tensor:
        """The file's bytes."""
        if self._table is None:
            # On first use, as strategies must precede tensors; in init_scope, because that may
            # be inside a tf.data function, whose tensors die with it.
            with tf.init_scope(), tf.device("CPU:0"):
                self._table = tf.constant(self._paths)
        return tf.io.read_file(tf.gather(self._table, index))

    def subset(self, indices: np.ndarray) -> "FileSource":
        """A source of its own with these examples, renumbered from 0."""
        return FileSource(
            self.name,
            "",
            self._paths[indices],
            self._labels[indices],
            self.class_names,
            None if self.targets is None else self.targets[indices],
        )


def find_images(name: str, root: str) -> list[str]:
    """Paths of all image files below a folder, relative to it, sorted, the same on any machine.

    Hidden files and folders are left out; links to folders are followed, each folder once.

    Args:
        name: how the user named the data set.
        root: the folder.

    Raises:
        UserError: if the folder is missing, cannot be read or holds no image.
    """
    if not tf.io.gfile.isdir(root):
        raise UserError(f"--dataset={name}: expected a folder. Received: {root}, which is not one.")
    try:
        paths = sorted(_walk(root, "", {os.path.realpath(root)}))
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"--dataset={name}: expected folders that can be read. Received: {error}."
        ) from error
    if not paths:
        raise UserError(
            f"--dataset={name}: expected image files ({', '.join(EXTENSIONS)}) in {root} or its "
            "subfolders. Received: none."
        )
    return paths


def _walk(root: str, prefix: str, seen: set[str]) -> Iterator[str]:
    remote = "://" in root
    here = os.path.join(root, prefix) if prefix else root
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(here)] if remote else os.listdir(here)
    for name in names:
        path = os.path.join(here, name)
        if name.startswith((".", "__MACOSX")):
            continue
        if name.lower().endswith(EXTENSIONS):
            yield prefix + name
        elif tf.io.gfile.isdir(path) if remote else os.path.isdir(path):
            real = path if remote else os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield from _walk(root, f"{prefix}{name}/", seen)


def folder_classes(paths: Sequence[str]) -> list[str]:
    """The first part of every path, or nothing if a file lies outside any folder."""
    if any("/" not in path for path in paths):
        return []
    return sorted({path.split("/", 1)[0] for path in paths})


def folder_source(
    name: str, root: str, paths: Sequence[str], class_names: Sequence[str]
) -> FileSource:
    """The images of a folder; labels follow from `class_names` if its files lie in class folders.

    Args:
        name: how the user named it.
        root: the folder.
        paths: its images, from `find_images`.
        class_names: classes of all splits together, sorted; empty for no labels.
    """
    number = {class_name: label for label, class_name in enumerate(class_names)}
    labelled = bool(class_names) and bool(folder_classes(paths))
    labels = [number[path.split("/", 1)[0]] if labelled else -1 for path in paths]
    return FileSource(name, root, paths, np.asarray(labels, np.int32), class_names)


def read_list(name: str, path: str, root: str, within: str = "") -> tuple[list[str], list[str]]:
    """Reads lines of `path` or `path<tab>label`; the label is any text, empty for unknown, and
    several labels of one image are separated by semicolons.

    Args:
        name: how the user named the data set.
        path: the list.
        root: folder to which its paths are relative.
        within: folder that no path may lead out of, be it by .. or by a link; empty: any may.

    Returns:
        The paths and the label texts ("" for unknown), in the list's order.

    Raises:
        UserError: if there is no such file, with the number of the first bad line, or if it is
            empty.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = file.read().split(b"\n")
    except tf.errors.OpError as error:
        raise UserError(
            f"--dataset={name}: expected a readable list. Received: {path}."
            f"{did_you_mean_path(path)}"
        ) from error
    paths: list[str] = []
    texts: list[str] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        line = line.rstrip(b"\r")
        if not line.strip():
            continue
        image, text = _parse_line(path, number, line)
        if image in first_line:
            raise UserError(
                f"{path}, line {number}: expected each image once. Received: {image!r} again, "
                f"first in line {first_line[image]}. Remove one of the lines."
            )
        if within and not _lies_in(os.path.join(root, image), within):
            raise UserError(
                f"{path}, line {number}: expected an image in --data_root={within}. Received: "
                f"{image!r}, which lies outside. Remove the line, or leave the flag out."
            )
        first_line[image] = number
        paths.append(image)
        texts.append(text)
    if not paths:
        raise UserError(f"{path}: expected lines of path<tab>label. Received: an empty list.")
    missing = [image for image in paths[:20] if not tf.io.gfile.exists(os.path.join(root, image))]
    if len(missing) == len(paths[:20]):
        raise UserError(
            f"{path}, line {first_line[paths[0]]}: expected paths relative to {root}. "
            f"Received: {paths[0]!r}, which does not exist there, nor do the lines after it."
        )
    return paths, texts


def _lies_in(path: str, folder: str) -> bool:
    """Whether a path lies in a folder when all links are followed."""
    if "://" in path:  # no links there
        path, folder = posixpath.normpath(path), posixpath.normpath(folder)
    else:
        path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path.startswith(folder.rstrip("/") + "/")


def _parse_line(path: str, number: int, line: bytes) -> tuple[str, str]:
    where = f"{path}, line {number}: expected path<tab>label in UTF-8."
    try:
        parts = [part.strip() for part in line.decode("utf-8").split("\t")]
    except UnicodeDecodeError as error:
        raise UserError(f"{where} Received: other bytes. Save the list as UTF-8.") from error
    if len(parts) > 2 or not parts[0] or b"\0" in line:
        raise UserError(f"{where} Received: {line.decode('utf-8')!r}. Mend or remove the line.")
    return parts[0], parts[1] if len(parts) == 2 else ""


def label_order(texts: Sequence[str]) -> list[str]:
    """Distinct labels without the empty one: in numeric order if all are integers, else sorted."""
    distinct = sorted(set(texts) - {""})
    if all(text.lstrip("-").isdecimal() for text in distinct):
        distinct.sort(key=int)
    return distinct


def multi_hot(texts: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Several labels a line as int8 `[N, C]`: 1 present, 0 absent; -1 for a line without any."""
    targets = np.zeros([len(texts), len(class_names)], np.int8)
    number = {text: label for label, text in enumerate(class_names)}
    for row, text in zip(targets, texts, strict=True):
        if text:
            row[[number[part] for part in split_labels(text)]] = 1
        else:
            row[:] = -1
    return targets


def split_labels(text: str) -> list[str]:
    """The labels of one line of a list."""
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]
