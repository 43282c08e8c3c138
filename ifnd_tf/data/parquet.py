"""Examples in Parquet files, as Hugging Face lays them out: image bytes and perhaps a label."""

import glob
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from ifnd_tf.data.contents import Contents, Note, named
from ifnd_tf.data.parquet_columns import columns, footer, image_bytes, labels, unreadable_cell
from ifnd_tf.data.source import EVAL_SPLITS
from ifnd_tf.data.stream_source import StreamSource
from ifnd_tf.errors import UserError, cause
from ifnd_tf.run.words import counted

# As in test.parquet, train-00003-of-00257.parquet, or that with a hash.
_SPLIT_NAME = re.compile(r"([A-Za-z_]+?)(-\d+(-of-\d+)?(-[0-9a-f]{8,})?)?\.parquet$")


def open_parquet(
    name: str, pattern: str, train_split: str, eval_split: str
) -> tuple["ParquetSource", "ParquetSource | None", Contents]:
    """The training and evaluation splits of Parquet files.

    A file's split is its name before the numbers, as in train-00003-of-00257.parquet; files without
    such names are all of the training split.

    Args:
        name: how the user named the data set.
        pattern: of the files' paths, with * and **.
        train_split: name of the split to train on; "train" stands for all if no file has it.
        eval_split: likewise to evaluate on; "" for the first of test, validation, val.

    Raises:
        UserError: if no file matches, a file is damaged, a split or an image column is missing.
    """
    paths = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    if not paths:
        raise UserError(
            f"--dataset={name}: expected Parquet files. Received: none that match {pattern!r}; "
            "quote the pattern, as in --dataset='parquet:data/*.parquet'."
        )
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    splits: dict[str, list[str]] = {}
    for path in paths:
        found = _SPLIT_NAME.search(os.path.basename(path))
        splits.setdefault(found[1] if found else "", []).append(path)
    if train_split in splits:
        train = splits[train_split]
    elif train_split == "train" and not splits.keys() & {"train", *EVAL_SPLITS}:
        train, splits = paths, {"train": paths}
    else:
        raise UserError(
            f"--train_split: expected a split among {', '.join(sorted(splits))}. Received: "
            f"{train_split!r}."
        )
    if eval_split and (eval_split not in splits or eval_split == train_split):
        raise UserError(
            f"--eval_split: expected another split than --train_split among "
            f"{', '.join(sorted(splits))}. Received: {eval_split!r}."
        )
    others = [split for split in EVAL_SPLITS if split in splits and split != train_split]
    chosen = eval_split or next(iter(others), "")
    evaluation = splits[chosen] if chosen else None
    # Named alike from wherever the pattern starts.
    names = [os.path.relpath(path, folder) for path in paths]
    used = {*train, *(evaluation or [])}
    unused = [each for each, path in zip(names, paths, strict=True) if path not in used]
    notes = [_unused(unused, " and ".join(filter(None, (train_split, chosen))))] if unused else []
    return (
        ParquetSource(name, train),
        ParquetSource(name, evaluation) if evaluation else None,
        Contents.of(names, map(os.path.getsize, paths), notes),
    )


def _unused(names: Sequence[str], splits: str) -> Note:
    text = f"{counted(len(names), 'file')} of other splits than {splits} not used: {named(names)} "
    text += "(--train_split and --eval_split choose splits, which are a file's name before -00000)"
    return Note("outside_splits", len(names), text)


class ParquetSource(StreamSource):
    """The rows of some Parquet files; a part of the stream is a row group.

    Labels are a column of their own, so they are read at once.

    Args:
        name: how the user named it.
        paths: of the files, in order.
    """

    def __init__(self, name: str, paths: Sequence[str]):
        start = f"--dataset={name}"
        footers = [footer(start, path) for path in paths]
        self._columns = columns(start, paths, [each.schema for each in footers])
        self._damaged = ""
        groups = [
            (path, group, metadata.row_group(group).num_rows)
            for path, (_, metadata) in zip(paths, footers, strict=True)
            for group in range(metadata.num_row_groups)
        ]
        lengths = np.array([rows for _, _, rows in groups], np.int64)
        parts = (
            np.array([path for path, _, _ in groups], object),
            np.array([group for _, group, _ in groups], np.int64),
            lengths,
        )
        super().__init__(
            name, parts, lengths, self._columns.class_names,
            has_labels=bool(self._columns.label), split=named(paths),
        )  # fmt: skip
        if self._columns.label:
            self.set_labels(np.concatenate([self._label_column(path) for path in paths]))

    def describe(self, index: int) -> str:
        """The file's name and the row in it."""
        part, place = self._place(index)
        same = self._parts[0][:part] == self._parts[0][part]
        row = int(self._lengths[:part][same].sum()) + place
        return f"{os.path.basename(self._parts[0][part])}__{row}"

    @property
    def unnamed(self) -> str:
        """See `Source.unnamed`."""
        return f"an image in {self._damaged}" if self._damaged else super().unnamed

    def reason(self, index: int) -> str:
        """See `StreamSource.reason`."""
        part, place = self._place(index)
        path, group = (column[part] for column in self._parts[:2])
        try:
            return unreadable_cell(path, int(group), self._columns.image, place)
        except (OSError, KeyError, pa.ArrowException) as error:  # damaged, or replaced
            return f"its row group cannot be read: {cause(error)}"

    def read(self, path: tf.Tensor, group: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
        """Image bytes and labels of a row group; empty images if it cannot be read."""
        images, labels = tf.numpy_function(
            self._read_group, [path, group, rows], [tf.string, tf.int32]
        )
        return tf.data.Dataset.from_tensor_slices(
            (tf.ensure_shape(images, [None]), tf.ensure_shape(labels, [None]))
        )

    def parse(self, stored: Any, *, with_image: bool = True) -> tuple[tf.Tensor, tf.Tensor]:
        """See `StreamSource.parse`."""
        image, label = stored
        return image if with_image else tf.constant(""), label

    def _read_group(self, path: bytes, group: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = self._columns[:2]
        try:
            with pq.ParquetFile(os.fsdecode(path)) as file:
                table = file.read_row_group(group, columns=[c for c in (image, label) if c])
            contents = [each.as_py() or b"" for each in image_bytes(table[image])]
            if len(contents) != rows:
                raise OSError("another number of rows")
            return np.array(contents, object), labels(table[label]) if label else _none(rows)
        except (OSError, KeyError, pa.ArrowException):  # damaged or replaced since it was opened
            self._damaged = os.fsdecode(path)
            return np.array([b""] * rows, object), _none(rows)

    def _label_column(self, path: str) -> np.ndarray:
        label = self._columns.label
        try:
            with pq.ParquetFile(path) as file:
                return labels(file.read(columns=[label])[label])
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"--dataset={self.name}: expected labels in the column {label}. Received: {path} "
                f"({cause(error)}); mend or remove it."
            ) from error


def _none(rows: int) -> np.ndarray:
    return np.full(rows, -1, np.int32)
