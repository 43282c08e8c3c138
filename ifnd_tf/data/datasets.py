"""Data sets by name: the examples to train on, and those to evaluate on."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.contents import Contents, Note, named
from ifnd_tf.data.dataset_name import require_kind, require_splits
from ifnd_tf.data.decode import DECODING, Decoding
from ifnd_tf.data.folder import open_folder
from ifnd_tf.data.list_file import open_list
from ifnd_tf.data.parquet import open_parquet
from ifnd_tf.data.source import Source
from ifnd_tf.data.tfds import open_tfds
from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.run.words import counted

# Share of labelled images held out where there is no evaluation split.
_HELD_OUT = 0.2

# Seeds the generator that chooses held-out examples and subsets: the same ones in every run.
_FIXED_SEED = [0, 0x5EED]


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
    holdout_share: float | None = None,
    validation_share: float = 0.0,
    subset_classes: int = 0,
    subset_images: int = 0,
    decoding: Decoding = DECODING,
    workdir: str = "",
    progress: Count = uncounted,
) -> Splits:
    """Opens a data set. Nothing is decoded yet.

    Args:
        dataset: digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG] | parquet:GLOB.
        data_dir: where tfds finds prepared data; for list, the folder its paths are relative
            to (default: the list's own).
        data_root: for list, the folder that no path may lead out of; empty: any may.
        train_split: folder below PATH, or tfds split or slice, to train on.
        eval_split: likewise to evaluate on; for list, another list. Empty: a split called
            test, validation or val, else a held-out share of the training split.
        holdout_share: share held out, in (0, 1), of every class alike where labels are known.
            None: a fifth of labelled images, and nothing of others.
        validation_share: share of the training split, in [0, 1), of every class alike, that is
            kept from training and takes the evaluation split's place, so that settings can be
            chosen without a look at the latter; 0: none.
        subset_classes, subset_images: see `subset`.
        decoding: how encoded images become pixels.
        workdir: for folder, the run's own folder, whose pictures are no data.
        progress: for folder, called now and then with the number of images found, and 0.

    Returns:
        The splits; `evaluation` is None if nothing is held out.

    Raises:
        UserError: for everything that the user can mend: an unknown name, a missing path, an empty
            folder, a bad line, a single class, tfds data that is not prepared.
    """
    train, evaluation, contents = _open(
        dataset, data_dir, data_root, train_split, eval_split, workdir, progress
    )
    if holdout_share is None and train.labelled:
        holdout_share = _HELD_OUT
    if evaluation is None and holdout_share:
        train, evaluation = hold_out(train, holdout_share)
    if validation_share:
        train, evaluation = hold_out(train, validation_share)
    splits = Splits(train, evaluation)
    if subset_classes or subset_images:
        splits = subset(splits, num_classes=subset_classes, num_images=subset_images)
    contents = contents._replace(notes=(*contents.notes, *_classes_apart(splits)))
    for source in filter(None, splits):
        source.decoding, source.contents = decoding, contents
    return splits


def _classes_apart(splits: Splits) -> Iterator[Note]:
    """Notes on classes that only one of the two parts has; none where labels are not known yet."""
    if not all(source and source.labelled and source.labels_known for source in splits):
        return
    trained, evaluated = (set(source.labels[source.labels >= 0]) for source in splits if source)
    for kind, lacking, text in (
        ("class_not_evaluated", trained - evaluated, "held out or in the evaluation split, so "
         "accuracy says nothing of it"),
        ("class_not_trained", evaluated - trained, "to train on, so all of it counts as wrong"),
    ):  # fmt: skip
        if lacking:
            number = counted(len(lacking), "class", "classes")
            which = named(splits.train.class_names[label] for label in sorted(lacking))
            yield Note(kind, len(lacking), f"{number} without an image {text}: {which}")


def _open(
    dataset: str,
    data_dir: str,
    data_root: str,
    train_split: str,
    eval_split: str,
    workdir: str,
    progress: Count,
) -> tuple[Source, Source | None, Contents]:
    """The splits as they are stored, and what was found; see `open_splits`."""
    kind, rest = require_kind("dataset", dataset)
    require_splits(kind, train_split, eval_split)
    path, evaluation = os.path.expanduser(rest), os.path.expanduser(eval_split)
    data_dir = os.path.expanduser(data_dir)
    if kind == "folder":
        return open_folder(dataset, path, train_split, eval_split, workdir, progress)
    if kind == "list":
        return open_list(dataset, path, data_dir, evaluation, os.path.expanduser(data_root))
    if kind == "tfds":
        return open_tfds(rest, data_dir, train_split, eval_split)
    if kind == "parquet":
        return open_parquet(dataset, rest, train_split, eval_split)
    digits = _digits()
    return digits, None, Contents.of(["digits"], [digits.num_examples])


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
    for source in filter(None, splits):
        source.read_labels()
    classes, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    wanted = num_classes or len(classes)
    if not 2 <= wanted <= len(classes):
        raise UserError(
            f"--subset_classes: expected at least 2 and at most the "
            f"{counted(len(classes), 'class', 'classes')} of "
            f"{train.name}. Received: {wanted}; choose another number, or a data set with labels."
        )
    classes, least = classes[:wanted], int(counts[:wanted].min())
    each = num_images // wanted
    if num_images and not 0 < each <= least:
        raise UserError(
            f"--subset_images: expected at least {wanted} and at most {least * wanted}, as one of "
            f"the {wanted} classes has {least} images. Received: {num_images}."
        )
    generator = np.random.default_rng(_FIXED_SEED)
    members = [generator.permutation(np.flatnonzero(train.labels == one)) for one in classes]
    train = train.subset(np.sort(np.concatenate([m[: each or len(m)] for m in members])))
    if evaluation is not None:
        kept = np.flatnonzero(np.isin(evaluation.labels, classes))
        if not len(kept):
            raise UserError(
                f"--subset_classes: expected classes that {evaluation.name}'s evaluation split has "
                f"as well. Received: {wanted}, none of which it has; choose more, or another "
                "--eval_split."
            )
        evaluation = evaluation.subset(kept)
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
    source.read_labels()
    generator = np.random.default_rng(_FIXED_SEED)
    chosen = []
    labels = np.unique(source.labels)
    known = labels[labels >= 0]  # none of images with several labels each
    # Images without a label among others with one cannot be evaluated on.
    for label in known if len(known) else labels:
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
