"""Image files in a folder, labelled by the class folders that they lie in."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ifnd_tf.data.contents import Contents, Note, counted, named, printable
from ifnd_tf.data.folder_files import find_files
from ifnd_tf.data.source import EVAL_SPLITS, FileSource
from ifnd_tf.errors import UserError

# Folders that may lie beside a folder "train" without being classes.
_SPLITS = {
    "train", "training", *EVAL_SPLITS, "testing", "dev", "extra", "unlabeled", "unlabelled",
}  # fmt: skip


class _Part(NamedTuple):
    """The images of one split: the folder's prefix, "" or ending in "/", and paths below it."""

    prefix: str
    paths: list[str]

    @property
    def title(self) -> str:
        return printable(self.prefix) or "the folder"

    @property
    def loose(self) -> list[str]:
        """Images that lie in no folder of their own."""
        return [path for path in self.paths if "/" not in path]

    @property
    def classes(self) -> set[str]:
        """The class folders: none where most images lie beside the folders."""
        if 2 * len(self.loose) >= len(self.paths):
            return set()
        return {_top(path) for path in self.paths} - {""}


def open_folder(
    name: str, root: str, train_split: str = "train", eval_split: str = "", workdir: str = ""
) -> tuple[FileSource, FileSource | None, Contents]:
    """The training and evaluation images of a folder, and what was found; see `open_splits`.

    Args:
        name: how the user named the data set.
        root: the folder.
        train_split: folder in it to train on, in any case, or "." for all. "train" stands for all
            where there is no such folder, or where it is one class among others.
        eval_split: folder to evaluate on; "" for the first of `EVAL_SPLITS`.
        workdir: the run's own folder, which is no data.
    """
    sizes, notes = find_files(name, root, workdir)
    paths = list(sizes)
    prefix = ""
    while not (tops := {_top(path) for path in paths}) & {""} and len(tops) == 1:
        # All in one folder: a data set is often unpacked into a folder of its name.
        (only,) = tops
        if only.lower() in _SPLITS:
            break
        prefix, paths = f"{prefix}{only}/", [path.split("/", 1)[1] for path in paths]
    train, evaluation = _choose_splits(root, paths, train_split, eval_split)
    notes += _outside(paths, [part for part in (train, evaluation) if part])
    if evaluation and train.classes and not evaluation.classes:
        if eval_split:
            raise UserError(
                f"--eval_split: expected class folders, as {train.title} has. Received: "
                f"{eval_split!r} without; sort its images, or leave the flag out."
            )
        number = counted(len(evaluation.paths), "image")
        text = f"{number} of {evaluation.title} not used, since there are no class folders; "
        text += f"a share of {train.title} is held out for evaluation instead"
        notes.append(Note("unlabelled_split", len(evaluation.paths), text))
        evaluation = None
    parts = [part for part in (train, evaluation) if part]
    # One numbering for both splits, whichever classes either lacks.
    classes = sorted(set().union(*(part.classes for part in parts)))
    if len(classes) == 1 or (not classes and prefix):
        where = printable(prefix + (f"{classes[0]}/" if classes else ""))
        text = f"all images lie in one folder, {where}, so none has a label"
        notes.append(Note("one_folder", 1, text))
        classes = []
    loose = [part.prefix + path for part in parts if part.classes for path in part.loose]
    if classes and loose:
        text = f"{counted(len(loose), 'image')} beside the class folders without a label: "
        notes.append(Note("unlabelled", len(loose), text + named(loose)))
    sources = [
        folder_source(name, os.path.join(root, prefix, part.prefix), part.paths, classes)
        for part in parts
    ]
    used = sorted(prefix + part.prefix + path for part in parts for path in part.paths)
    contents = Contents(tuple(used), tuple(sizes[path] for path in used), tuple(notes))
    return sources[0], sources[1] if evaluation else None, contents


def _choose_splits(
    root: str, paths: Sequence[str], train_split: str, eval_split: str
) -> tuple[_Part, _Part | None]:
    """What to train on and what to evaluate on, by the folders' names."""
    folders = collections.Counter(map(_top, paths))
    folders.pop("", None)

    def find(wanted: str) -> str:
        same = [folder for folder in folders if folder.lower() == wanted.lower()]
        return wanted if wanted in folders else same[0] if same else ""

    train_folder = "" if train_split == "." else find(train_split)
    if train_folder and train_split == "train" and not _is_split(train_folder, folders, paths):
        train_folder = ""
    elif not train_folder and train_split not in ("train", "."):
        raise UserError(f"--train_split: expected a folder in {root}. Received: {train_split!r}.")
    eval_folder = ""
    if train_folder:
        candidates = [eval_split] if eval_split else EVAL_SPLITS
        eval_folder = next(filter(None, map(find, candidates)), "")
    if eval_split and not eval_folder:
        raise UserError(
            f"--eval_split: expected a folder in {root} beside {train_split}/. "
            f"Received: {eval_split!r}."
        )
    train, evaluation = (
        _Part(prefix, [path[len(prefix) :] for path in paths if path.startswith(prefix)])
        for prefix in (f"{folder}/" if folder else "" for folder in (train_folder, eval_folder))
    )
    return train, evaluation if eval_folder else None


def _is_split(folder: str, folders: Mapping[str, int], paths: Sequence[str]) -> bool:
    """Whether a folder "train" is a split: it holds class folders, or its siblings are splits."""
    holds_folders = any(path.startswith(f"{folder}/") and path.count("/") > 1 for path in paths)
    return holds_folders or all(name.lower() in _SPLITS for name in folders)


def _outside(paths: Sequence[str], parts: Sequence[_Part]) -> list[Note]:
    """A note on the images that lie in none of the splits."""
    prefixes = tuple(part.prefix for part in parts)
    outside = [path for path in paths if not path.startswith(prefixes)]
    if not outside:
        return []
    folders = collections.Counter(_top(path) or "." for path in outside).most_common(5)
    listed = ", ".join(f"{count:,} in {printable(folder)}/" for folder, count in folders)
    splits = " and ".join(part.title for part in parts)
    text = f"{counted(len(outside), 'image')} outside {splits} not used: {listed} (--train_split "
    text += "and --eval_split choose folders, --train_split=. all)"
    return [Note("outside_splits", len(outside), text)]


def _top(path: str) -> str:
    """The first folder of a path, or ""."""
    return path.split("/", 1)[0] if "/" in path else ""


def folder_source(
    name: str, root: str, paths: Sequence[str], class_names: Sequence[str]
) -> FileSource:
    """The images of a folder; the label of each follows from the first folder of its path.

    Args:
        name: how the user named it.
        root: the folder.
        paths: its images, relative to it.
        class_names: classes of all splits together, sorted; empty for no labels.
    """
    number = {class_name: label for label, class_name in enumerate(class_names)}
    labels = [number.get(_top(path), -1) for path in paths]
    return FileSource(
        name, root, paths, np.asarray(labels, np.int32), list(map(printable, class_names))
    )
