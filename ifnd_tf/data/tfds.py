"""Opens data sets that TensorFlow Datasets has prepared."""

from collections.abc import Mapping
from typing import Any

from ifnd_tf.data.contents import Contents
from ifnd_tf.data.dataset_name import check_name, not_prepared
from ifnd_tf.data.source import EVAL_SPLITS
from ifnd_tf.data.tfds_records import TfdsRecords
from ifnd_tf.data.tfds_source import TfdsSource
from ifnd_tf.errors import UserError, cause


def open_tfds(
    name: str, data_dir: str, train_split: str, eval_split: str
) -> tuple[TfdsSource | TfdsRecords, TfdsSource | TfdsRecords | None, Contents]:
    """The training and evaluation splits of prepared data, and its shards.

    See `datasets.open_splits`.

    Args:
        name: NAME[/CONFIG][:VERSION] of tfds.
        data_dir: folder with the prepared data, or "" for tfds' own.
        train_split: split or slice.
        eval_split: likewise; "" for the first of test, validation, val.

    Raises:
        UserError: if tfds is not installed, does not know the name, or the data is not prepared.
    """
    full = f"tfds:{name}"
    builder = _builder(full, name, data_dir)
    source = TfdsRecords if builder.info.file_format.value == "array_record" else TfdsSource
    train = source(full, builder, train_split)
    if not eval_split:
        others = [each for each in EVAL_SPLITS if each in builder.info.splits]
        eval_split = next((each for each in others if each != train_split.split("[")[0]), "")
    evaluation = source(full, builder, eval_split) if eval_split else None
    if evaluation and _overlap(train.spans, evaluation.spans):
        raise UserError(
            f"--eval_split: expected examples that are not trained on. Received: {eval_split!r}, "
            f"which shares some with --train_split={train_split}; choose slices apart, such as "
            "train[:90%] and train[90%:]."
        )
    shards = {
        f"{split}/{shard}": length
        for split, info in builder.info.splits.items()
        for shard, length in enumerate(info.shard_lengths)
    }
    return train, evaluation, Contents.of(shards, shards.values())


def _overlap(one: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> bool:
    """Whether two splits read a record of the same file."""
    return any(
        max(one[path][0], other[path][0]) < min(one[path][1], other[path][1])
        for path in one.keys() & other.keys()
    )


def _builder(full: str, name: str, data_dir: str) -> Any:
    check_name("dataset", full, data_dir)
    import tensorflow_datasets as tfds

    where = data_dir or "~/tensorflow_datasets"
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except Exception as error:  # its parsers raise many kinds
        raise UserError(
            f"--dataset={full}: expected prepared data that can be read in {where}. Received: "
            f"{cause(error)}; prepare it again."
        ) from error
    if not builder.info.splits:
        raise not_prepared("dataset", name, where)
    if builder.info.file_format.value not in ("tfrecord", "array_record"):
        raise UserError(
            f"--dataset={full}: expected data prepared as tfrecord or array_record. Received: "
            f"{builder.info.file_format.value}."
        )
    return builder
