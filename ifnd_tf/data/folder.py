"""Image files in a folder, labelled by the class folders that they lie in."""

import collections
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ifnd_tf.data.contents import Contents, Note, named, printable
from ifnd_tf.data.file_source import FileSource
from ifnd_tf.data.folder_files import find_files
from ifnd_tf.data.source import EVAL_SPLITS
from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.run.words import counted

# Other names of split folders, and folders of images that have no class.
_ALIASES = {"train": ("training",), "test": ("testing",)}
_UNLABELLED = {"unlabeled", "unlabelled"}
# Folders that may lie beside a folder "train" without being classes.
_SPLITS = {"train", "training", *EVAL_SPLITS, "testing", "dev", "extra", *_UNLABELLED}


@dataclasses.dataclass(frozen=True)
class _Part:
    """The images of one split: those `among` all whose path begins with the folder's prefix.

    The prefix is "" or ends in "/".
    """

    prefix: str
    among: Sequence[str]

    @property
    def paths(self) -> Iterator[str]:
        """Paths below the folder, generated at each call: a list of a million takes memory."""
        start = len(self.prefix)
        return (path[start:] for path in self.among if path.startswith(self.prefix))

    @functools.cached_property
    def count(self) -> int:
        """Number of images."""
        return sum(1 for _ in self.paths)

    @property
    def title(self) -> str:
        return printable(self.prefix) or "the folder"

    @functools.cached_property
    def classes(self) -> set[str]:
        """The class folders."""
        tops = set(map(_top, self.paths)) - {""}
        return {top for top in tops if _plain(top) not in _UNLABELLED}

    @property
    def unlabelled(self) -> list[str]:
        """Images in none of the class folders."""
        return [path for path in self.paths if _top(path) not in self.classes]


def open_folder(
    name: str,
    root: str,
    train_split: str = "train",
    eval_split: str = "",
    workdir: str = "",
    progress: Count = uncounted,
) -> tuple[FileSource, FileSource | None, Contents]:
    """The training and evaluation images of a folder, and what was found; see `open_splits`.

    Args:
        name: how the user named the data set.
        root: the folder.
        train_split: folder in it to train on, in any case, or "." for all. "train" stands for all
            where there is no such folder, or where it is one class among others.
        eval_split: folder to evaluate on; "" for the first of `EVAL_SPLITS`.
        workdir: the run's own folder, which is no data.
        progress: see `find_files`.
    """
    paths, sizes, notes, linked = find_files(name, root, workdir, progress)
    prefix = ""
    while not (tops := {_top(path) for path in paths}) & {""} and len(tops) == 1:
        # All in one folder: a data set is often unpacked into a folder of its name.
        (only,) = tops
        if _plain(only) in {train_split.lower(), *_ALIASES.get(train_split, ()), *_UNLABELLED}:
            break
        prefix, paths = f"{prefix}{only}/", [path.split("/", 1)[1] for path in paths]
    train, evaluation = _choose_splits(root, paths, train_split, eval_split)
    notes += _outside(paths, [part for part in (train, evaluation) if part])
    if evaluation and train.classes and not evaluation.classes & train.classes:
        notes.append(_not_evaluated(train, evaluation, eval_split))
        evaluation = None
    parts = [part for part in (train, evaluation) if part]
    # One numbering for both splits, whichever classes either lacks.
    classes = sorted(set().union(*(part.classes for part in parts)))
    if len(classes) == 1 or (not classes and prefix):
        where = printable(prefix + (f"{classes[0]}/" if classes else ""))
        text = f"{where} is the only folder of images, so no image has a label"
        notes.append(Note("one_folder", 1, text))
        classes = []
    without = [part.prefix + path for part in parts for path in part.unlabelled if classes]
    if without:
        text = f"{counted(len(without), 'image')} in no class folder, without a label: "
        notes.append(Note("unlabelled", len(without), text + named(without)))
    if evaluation and not classes:
        text = f"{counted(evaluation.count, 'image')} of {evaluation.title} not trained on; "
        text += "without labels nothing is evaluated on them"
        notes.append(Note("unlabelled_split", evaluation.count, text))
    if linked and evaluation:
        _require_apart(os.path.join(root, prefix), parts)
    sources = [_source(name, os.path.join(root, prefix), part, classes) for part in parts]
    prefixes = tuple(part.prefix for part in parts)
    used = [path.startswith(prefixes) for path in paths]
    names = (prefix + path for path in itertools.compress(paths, used))
    contents = Contents.of(names, itertools.compress(sizes, used), notes)
    return sources[0], sources[1] if evaluation else None, contents


def _choose_splits(
    root: str, paths: Sequence[str], train_split: str, eval_split: str
) -> tuple[_Part, _Part | None]:
    """The images to train on and to evaluate on, by the folders' names."""
    folders = collections.Counter(map(_top, paths))
    folders.pop("", None)

    def find(wanted: str) -> str:
        if wanted in folders:
            return wanted
        names = {wanted.lower(), *_ALIASES.get(wanted, ())}
        return next((folder for folder in sorted(folders) if _plain(folder) in names), "")

    def part(folder: str) -> _Part:
        return _Part(f"{folder}/" if folder else "", paths)

    train_folder = "" if train_split == "." else find(train_split)
    if train_folder and train_split == "train" and not _is_split(train_folder, folders, paths):
        train_folder = ""
    elif not train_folder and train_split not in ("train", "."):
        raise UserError(f"--train_split: expected a folder in {root}. Received: {train_split!r}.")
    train = part(train_folder)
    found = [find(name) for name in ([eval_split] if eval_split else EVAL_SPLITS) if train_folder]
    evaluations = [part(folder) for folder in found if folder not in ("", train_folder)]
    # Of several, the first that has classes of the training split.
    evaluations.sort(key=lambda each: not each.classes & train.classes)
    if eval_split and not evaluations:
        raise UserError(
            f"--eval_split: expected a folder in {root} beside {train_split}/. "
            f"Received: {eval_split!r}."
        )
    return train, evaluations[0] if evaluations else None


def _not_evaluated(train: _Part, evaluation: _Part, eval_split: str) -> Note:
    """The note on an evaluation split without the training classes; an error if it was given."""
    if eval_split:
        raise UserError(
            f"--eval_split: expected class folders, as {train.title} has. Received: "
            f"{eval_split!r} without one of them; sort its images, or leave the flag out."
        )
    number = counted(evaluation.count, "image")
    text = f"{number} of {evaluation.title} not used, for want of class folders as in "
    text += f"{train.title}, of which a share is held out for evaluation instead"
    return Note("unlabelled_split", evaluation.count, text)


def _is_split(folder: str, folders: Mapping[str, int], paths: Sequence[str]) -> bool:
    """Whether a folder "train" is a split: its siblings are, or it alone holds folders."""
    others = {name for name in folders if _plain(name) not in _SPLITS}
    holding = {_top(path) for path in paths if path.count("/") > 1}
    return not others or (folder in holding and not others & holding)


def _require_apart(root: str, parts: Sequence[_Part]) -> None:
    """Raises `UserError` if a link to an image that is trained on would be evaluated on."""
    real = [
        {
            os.path.realpath(os.path.join(root, part.prefix, path)): part.prefix + path
            for path in part.paths
        }
        for part in parts
    ]
    both = [real[1][path] for path in real[0].keys() & real[1].keys()]
    if both:
        raise UserError(
            "--eval_split: expected images that are not trained on. Received: "
            f"{counted(len(both), 'link')} to images of {parts[0].title}: {named(sorted(both))}; "
            "remove them."
        )


def _outside(paths: Sequence[str], parts: Sequence[_Part]) -> list[Note]:
    """A note on the images that lie in none of the splits."""
    prefixes = tuple(part.prefix for part in parts)
    outside = [path for path in paths if not path.startswith(prefixes)]
    if not outside:
        return []
    folders = collections.Counter(_top(path) for path in outside).most_common(5)
    listed = ", ".join(
        f"{count:,} in {printable(folder)}/" if folder else f"{count:,} in no folder"
        for folder, count in folders
    )
    splits = " and ".join(part.title for part in parts)
    text = f"{counted(len(outside), 'image')} outside {splits} not used: {listed} (--train_split "
    text += "and --eval_split choose folders, --train_split=. all)"
    return [Note("outside_splits", len(outside), text)]


def _top(path: str) -> str:
    """The first folder of a path, or ""."""
    return path.split("/", 1)[0] if "/" in path else ""


def _plain(folder: str) -> str:
    """A folder's name without case and without words that say that it holds images."""
    return re.sub(r"[ _-]?(images?|imgs?|set|data)$", "", folder.lower())


def _source(name: str, root: str, part: _Part, class_names: Sequence[str]) -> FileSource:
    """The images of a split; the label of each follows from the first folder of its path.

    Args:
        name: how the user named the data set.
        root: the folder in which the split lies.
        part: the split.
        class_names: classes of all splits together, sorted; empty for no labels.
    """
    number = {class_name: label for label, class_name in enumerate(class_names)}
    labels = np.array([number.get(_top(path), -1) for path in part.paths], np.int32)
    folder = os.path.join(root, part.prefix)
    return FileSource(name, folder, part.paths, labels, list(map(printable, class_names)))
