"""Image files in a folder, labelled by the class folders that they lie in."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.source import EVAL_SPLITS, FileSource, Source
from ifnd_tf.errors import UserError, did_you_mean_path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def open_folder(
    name: str, root: str, train_split: str, eval_split: str
) -> tuple[Source, Source | None]:
    """The training and evaluation images of a folder; see `datasets.open_splits`.

    Args:
        name: how the user named the data set.
        root: the folder.
        train_split: folder in it to train on; if there is no folder "train", `root` itself.
        eval_split: folder to evaluate on; "" for the first of `EVAL_SPLITS`.
    """
    if not tf.io.gfile.isdir(root):
        raise UserError(
            f"--dataset={name}: expected a folder. Received: {root}, which is not one."
            f"{did_you_mean_path(root)}"
        )

    def below(folder: str) -> str:
        path = os.path.join(root, folder)
        return path if tf.io.gfile.isdir(path) else ""

    train_root, eval_root = below(train_split), ""
    if train_root:
        candidates = map(below, [eval_split] if eval_split else EVAL_SPLITS)
        eval_root = next(filter(None, candidates), "")
    elif train_split != "train":
        raise UserError(f"--train_split: expected a folder in {root}. Received: {train_split!r}.")
    if eval_split and not eval_root:
        raise UserError(
            f"--eval_split: expected a folder in {root} beside {train_split}/. "
            f"Received: {eval_split!r}."
        )
    roots = [path for path in (train_root or root, eval_root) if path]
    found = [find_images(name, path) for path in roots]
    # One numbering for both splits, whichever classes either lacks.
    class_names = sorted(set().union(*map(_classes, found)))
    if len(class_names) == 1:
        raise UserError(
            f"--dataset={name}: expected class folders of at least 2 classes, or images without "
            f"class folders. Received: one class, {class_names[0]!r}. To train without labels, "
            f"use folder:{os.path.join(roots[0], class_names[0])}."
        )
    train, *rest = (
        folder_source(name, path, images, class_names)
        for path, images in zip(roots, found, strict=True)
    )
    return train, rest[0] if rest else None


def find_images(name: str, root: str) -> list[str]:
    """Paths of all image files below a folder, relative to it, sorted, the same on any machine.

    Hidden files and folders are skipped; links to folders are followed, each folder once.

    Args:
        name: how the user named the data set.
        root: the folder.

    Raises:
        UserError: if the folder is missing, cannot be read or holds no image.
    """
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


def _classes(paths: Sequence[str]) -> list[str]:
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
    labelled = bool(class_names) and bool(_classes(paths))
    labels = [number[path.split("/", 1)[0]] if labelled else -1 for path in paths]
    return FileSource(name, root, paths, np.asarray(labels, np.int32), class_names)
