"""Data sets by name: the examples to train on, and those to evaluate on."""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.data import image_files
from ifnd_tf.data.scan import scan
from ifnd_tf.data.source import ArraySource, Source, Unreadable
from ifnd_tf.errors import UserError, did_you_mean, did_you_mean_path

__all__ = ["Source", "Splits", "Unreadable", "open_splits", "scan"]

KINDS = "digits, folder:PATH, list:FILE or tfds:NAME[/CONFIG]"
EVAL_FOLDERS = ("test", "validation", "val", "valid")


class Splits(NamedTuple):
    """The two parts of a data set, each with an index space of its own."""

    train: Source
    evaluation: Source | None


def open_splits(
    dataset: str,
    *,
    data_dir: str = "",
    data_root: str = "",
    train_split: str = "train",
    eval_split: str = "",
    holdout_share: float = 0.2,
    validation_share: float = 0.0,
    subset_classes: int = 0,
    subset_images: int = 0,
) -> Splits:
    """Opens a data set. Nothing is decoded yet.

    Args:
        dataset: digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG].
        data_root: for list, the folder that no path may lead out of; empty: any may.
        data_dir: where tfds finds prepared data; for list, the folder its paths are relative
            to (default: the list's own).
        train_split: folder below PATH, or tfds split or slice, to train on.
        eval_split: likewise to evaluate on; for list, another list. Empty: a split called
            test, validation or val, else a held-out share of the training split.
        holdout_share: share held out, in (0, 1), of every class alike where labels are known.
        validation_share: share of the training split, in [0, 1), of every class alike, that is
            kept from training and takes the evaluation split's place, so that settings can be
            chosen without a look at the latter; 0: none.
        subset_classes, subset_images: see `subset`.

    Returns:
        The splits; `evaluation` is None if the share held out comes to no example.

    Raises:
        UserError: for whatever the user can mend: an unknown name, a missing path, an empty
            folder, a bad line, a single class, tfds data that is not prepared.
    """
    kind, _, rest = dataset.partition(":")
    if train_split != "train" and kind in ("digits", "list"):
        raise UserError(
            f"--train_split: expected train, because {kind} has no other. Received: "
            f"{train_split!r}."
        )
    if dataset == "digits" and eval_split:
        raise UserError(
            "--eval_split: expected none, because digits are held out by --holdout_share. "
            f"Received: {eval_split!r}."
        )
    if dataset == "digits":
        train: Source = _digits()
        evaluation: Source | None = None
    elif kind == "folder" and rest:
        train, evaluation = _folder(dataset, os.path.expanduser(rest), train_split, eval_split)
    elif kind == "list" and rest:
        train, evaluation = _list(
            dataset, os.path.expanduser(rest), data_dir, eval_split, os.path.expanduser(data_root)
        )
    elif kind == "tfds" and rest:
        from ifnd_tf.data import tfds

        train, evaluation = tfds.open_pair(rest, data_dir, train_split, eval_split)
    else:
        path = os.path.expanduser(dataset)
        kind = "folder" if os.path.isdir(path) else "list" if os.path.isfile(path) else ""
        raise UserError(
            f"--dataset: expected {KINDS}. Received: {dataset!r}."
            + (f" Did you mean {kind}:{dataset}?" if kind else did_you_mean(dataset, ["digits"]))
        )
    if evaluation is None:
        train, evaluation = hold_out(train, holdout_share)
    if validation_share:
        train, evaluation = hold_out(train, validation_share)
    splits = Splits(train, evaluation)
    if subset_classes or subset_images:
        splits = subset(splits, num_classes=subset_classes, num_images=subset_images)
    return splits


def subset(splits: Splits, *, num_classes: int = 0, num_images: int = 0) -> Splits:
    """The first classes of labelled splits, and equally many training images of each.

    Always the same images, whatever the run's seed.

    Args:
        splits: the whole.
        num_classes: classes to keep in both splits, the first by label; 0: all.
        num_images: training images in all, rounded down to a multiple of the classes; 0: all.

    Raises:
        UserError: if the data has too few classes, or a class too few images.
    """
    train, evaluation = splits
    classes, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    wanted = num_classes or len(classes)
    if not 2 <= wanted <= len(classes):
        raise UserError(
            f"--subset_classes: expected at least 2 and at most the {len(classes)} classes of "
            f"{train.name}. Received: {wanted}; choose another number, or a data set with labels."
        )
    classes, least = classes[:wanted], int(counts[:wanted].min())
    each = num_images // wanted
    if num_images and not 0 < each <= least:
        raise UserError(
            f"--subset_images: expected at least {wanted} and at most {least * wanted}, as one of "
            f"the {wanted} classes has {least} images. Received: {num_images}."
        )
    generator = np.random.default_rng([0, 0x5EED])
    members = [generator.permutation(np.flatnonzero(train.labels == one)) for one in classes]
    train = train.subset(np.sort(np.concatenate([m[: each or len(m)] for m in members])))
    if evaluation is not None:
        evaluation = evaluation.subset(np.flatnonzero(np.isin(evaluation.labels, classes)))
    return Splits(train, evaluation)


def hold_out(source: Source, share: float) -> tuple[Source, Source | None]:
    """Splits off a fixed share of the examples, of every class alike.

    Always the same ones, whatever the run's seed: runs of several seeds are tested alike.

    Args:
        source: the examples.
        share: in (0, 1); of a class of n examples, round(share * n) are held out.

    Returns:
        The rest and the part held out, each in ascending order of the old index; the latter is
        None if it is empty.
    """
    generator = np.random.default_rng([0, 0x5EED])
    chosen = []
    for label in np.unique(source.labels):
        members = generator.permutation(np.flatnonzero(source.labels == label))
        chosen.append(members[: round(share * len(members))])
    held = np.sort(np.concatenate(chosen))
    kept = np.setdiff1d(np.arange(source.num_examples), held)
    if not len(kept):
        raise UserError(
            f"--holdout_share: expected to leave training examples of {source.num_examples}. "
            f"Received: {share}."
        )
    return source.subset(kept), source.subset(held) if len(held) else None


def _digits() -> ArraySource:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (UCI optdigits), as grey RGB."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Counts 0 to 16 to levels 0 to 255.
    grey = np.minimum(bunch.images * 16, 255).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return ArraySource("digits", images, bunch.target, [str(digit) for digit in range(10)])


def _folder(
    name: str, root: str, train_split: str, eval_split: str
) -> tuple[Source, Source | None]:
    if not tf.io.gfile.isdir(root):
        raise UserError(
            f"--dataset={name}: expected a folder. Received: {root}, which is not one."
            f"{did_you_mean_path(root)}"
        )
    train_root, eval_root = root, ""
    if tf.io.gfile.isdir(os.path.join(root, train_split)):
        train_root = os.path.join(root, train_split)
        for folder in [eval_split] if eval_split else EVAL_FOLDERS:
            if tf.io.gfile.isdir(os.path.join(root, folder)):
                eval_root = os.path.join(root, folder)
                break
    elif train_split != "train":
        raise UserError(f"--train_split: expected a folder in {root}. Received: {train_split!r}.")
    if eval_split and not eval_root:
        raise UserError(
            f"--eval_split: expected a folder in {root} beside {train_split}/. "
            f"Received: {eval_split!r}."
        )
    roots = [path for path in (train_root, eval_root) if path]
    found = [image_files.find_images(name, path) for path in roots]
    # One numbering for both splits, whichever classes either lacks.
    class_names = sorted(set().union(*map(image_files.folder_classes, found)))
    if len(class_names) == 1:
        raise UserError(
            f"--dataset={name}: expected class folders of at least 2 classes, or images without "
            f"class folders. Received: one class, {class_names[0]!r}. To train without labels, "
            f"use folder:{os.path.join(train_root, class_names[0])}."
        )
    sources = [
        image_files.folder_source(name, path, images, class_names)
        for path, images in zip(roots, found, strict=True)
    ]
    return sources[0], sources[1] if len(sources) == 2 else None


def _list(
    name: str, path: str, data_dir: str, eval_split: str, within: str
) -> tuple[Source, Source | None]:
    lists = []
    for each in [path, os.path.expanduser(eval_split)] if eval_split else [path]:
        root = data_dir or os.path.dirname(each) or "."
        lists.append((root, *image_files.read_list(name, each, root, within)))
    texts = [text for _, _, texts in lists for text in texts]
    several = any(len(image_files.split_labels(text)) > 1 for text in texts)
    class_names = image_files.label_order(
        [part for text in texts for part in image_files.split_labels(text)]
    )
    if len(class_names) == 1:
        raise UserError(
            f"--dataset={name}: expected at least 2 classes, or no labels at all. Received: only "
            f"{class_names[0]!r}. To train without labels, leave out the second column."
        )
    number = {text: label for label, text in enumerate(class_names)} | {"": -1}
    sources = [
        image_files.FileSource(
            name,
            root,
            paths,
            np.array([-1 if several else number[text] for text in texts]),
            class_names,
            image_files.multi_hot(texts, class_names) if several else None,
        )
        for root, paths, texts in lists
    ]
    return sources[0], sources[1] if len(sources) == 2 else None
