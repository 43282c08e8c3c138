"""Image files named in a list, with one label each, several or none."""

import codecs
import os
import posixpath
import stat
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import Contents, Note, named
from ifnd_tf.data.file_source import FileSource
from ifnd_tf.data.first_look import empty_list, parse_line, require_found
from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError, did_you_mean_path
from ifnd_tf.run.words import counted

# Between the labels of an image that has several.
SEPARATOR = ";"


def open_list(
    name: str, path: str, data_dir: str, eval_list: str, within: str
) -> tuple[Source, Source | None, Contents]:
    """The images of one or two lists, and what was found; see `datasets.open_splits`.

    Args:
        name: how the user named the data set.
        path: the list to train on.
        data_dir: folder to which the paths in the lists are relative; "": each list's own.
        eval_list: the list to evaluate on, or "".
        within: folder that no path may lead out of; "": any may.
    """
    lists = []
    for each in [path, eval_list] if eval_list else [path]:
        root = data_dir or os.path.dirname(each) or "."
        lists.append((root, *read_list(name, each, root, within)))
    found = [labels for _, _, rows in lists for labels in rows]
    several = any(len(labels) > 1 for labels in found)
    class_names = _label_order({label for labels in found for label in labels})
    if len(class_names) == 1:
        raise UserError(
            f"--dataset={name}: expected at least 2 classes, or no labels at all. Received: only "
            f"{class_names[0]!r}. To train without labels, leave out the second column."
        )
    number = {text: label for label, text in enumerate(class_names)}

    def source(root: str, paths: list[str], rows: list[list[str]]) -> FileSource:
        numbers = [[number[label] for label in labels] for labels in rows]
        single = np.array([-1 if several or not row else row[0] for row in numbers])
        targets = _multi_hot(numbers, len(class_names)) if several else None
        full = [os.path.join(root, path) for path in paths]  # some may be absolute
        return FileSource(name, "", full, single, class_names, targets)

    if eval_list:
        _require_apart(path, eval_list, *(_real_paths(root, paths) for root, paths, _ in lists))
    sources = [source(*each) for each in lists]
    return sources[0], sources[1] if eval_list else None, _contents(lists)


def _real_paths(root: str, paths: Sequence[str]) -> set[str]:
    joined = (os.path.join(root, path) for path in paths)
    return {path if "://" in path else os.path.realpath(path) for path in joined}


def _require_apart(train: str, evaluation: str, trained: set[str], evaluated: set[str]) -> None:
    """Raises `UserError` if an image would be evaluated on that was trained on."""
    both = sorted(trained & evaluated)
    if both:
        raise UserError(
            f"--eval_split={evaluation}: expected images that are not trained on. Received: "
            f"{counted(len(both), 'image')} of {train} too: {named(both)}; remove them from one of "
            "the lists."
        )


def _contents(lists: Sequence[tuple[str, list[str], list[list[str]]]]) -> Contents:
    """Paths and sizes of all images, and a note on those without a label among others."""
    files = sorted({(path, os.path.join(root, path)) for root, paths, _ in lists for path in paths})
    without = [
        path for _, paths, rows in lists for path, row in zip(paths, rows, strict=True) if not row
    ]
    notes = []
    if 0 < len(without) < sum(len(paths) for _, paths, _ in lists):
        text = f"{counted(len(without), 'image')} of the list without a label: {named(without)}"
        notes.append(Note("unlabelled", len(without), text))
    return Contents.of((name for name, _ in files), (_size(path) for _, path in files), notes)


def _size(path: str) -> int:
    """Bytes of a file on disk; -1 for one that is missing or remote."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1
    if not stat.S_ISREG(found.st_mode):  # to read a pipe would wait for ever
        raise UserError(
            f"Expected image files in a list. Received: {path}, which is a folder or no regular "
            "file; remove the line."
        )
    return found.st_size


def read_list(
    name: str, path: str, root: str, within: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Reads lines of `path` or `path<tab>label`; the label is any text, empty for unknown, and
    several labels of one image are separated by semicolons.

    Args:
        name: how the user named the data set.
        path: the list.
        root: folder to which its paths are relative.
        within: folder that no path may lead out of, be it by .. or by a link; empty: any may.

    Returns:
        The paths and the labels of each, none if unknown, in the list's order.

    Raises:
        UserError: if there is no such file, with the number of the first bad line, or if it is
            empty.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = file.read().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except tf.errors.OpError as error:
        raise UserError(
            f"--dataset={name}: expected a readable list. Received: {path}."
            f"{did_you_mean_path(path)}"
        ) from error
    labels: dict[str, list[str]] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, text = parse_line(path, number, line)
        key = image if "://" in image else posixpath.normpath(image)
        if key in first_line:
            raise UserError(
                f"{path}, line {number}: expected each image once. Received: {image!r} again, "
                f"first in line {first_line[key]}. Remove one of the lines."
            )
        if within and not _lies_in(os.path.join(root, image), within):
            raise UserError(
                f"{path}, line {number}: expected an image in --data_root={within}. Received: "
                f"{image!r}, which lies outside. Remove the line, or leave the flag out."
            )
        first_line[key] = number
        labels[image] = [part.strip() for part in text.split(SEPARATOR) if part.strip()]
    paths = list(labels)
    if not paths:
        raise empty_list(path)
    require_found(path, min(first_line.values()), root, paths, tf.io.gfile.exists)
    return paths, list(labels.values())


def _lies_in(path: str, folder: str) -> bool:
    """Whether a path lies in a folder when all links are followed."""
    real = posixpath.normpath if "://" in path else os.path.realpath  # no links on remote disks
    return real(path).startswith(real(folder).rstrip("/") + "/")


def _label_order(texts: set[str]) -> list[str]:
    """Distinct labels, in numeric order if all are integers, else sorted."""
    distinct = sorted(texts)
    if all(text.removeprefix("-").isdecimal() for text in distinct):
        distinct.sort(key=int)
    return distinct


def _multi_hot(rows: Sequence[list[int]], num_classes: int) -> np.ndarray:
    """Labels of each image as int8 `[N, C]`: 1 present, 0 absent; -1 for an image without any."""
    targets = np.zeros([len(rows), num_classes], np.int8)
    for target, labels in zip(targets, rows, strict=True):
        target[labels if labels else slice(None)] = 1 if labels else -1
    return targets
