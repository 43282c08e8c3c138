"""The files of `parquet:GLOB` and their columns, looked at without TensorFlow."""

import functools
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ifnd_tf.data.image_formats import unreadable_reason
from ifnd_tf.errors import UserError, cause
from ifnd_tf.run.words import counted


class Columns(NamedTuple):
    """The columns of image bytes and label ("" for none), and the classes by label."""

    image: str
    label: str
    class_names: tuple[str, ...]


def check(start: str, paths: Sequence[str]) -> None:
    """Raises `UserError` if the files cannot hold images; reads their footers only.

    Args:
        start: of the message: the flag and its value.
        paths: of the files.
    """
    files = [opened(start, path) for path in paths]
    if not any(file.metadata.num_rows for file in files):
        raise UserError(
            f"{start}: expected rows. Received: none in {counted(len(paths), 'file')}, such as "
            f"{paths[0]}."
        )
    columns(start, files[0].schema_arrow)


def unreadable_cell(path: str, group: int, column: str, row: int) -> str:
    """Why the image in a row of a row group cannot be decoded."""
    cell = _images(path, group, column)[row].as_py()
    if cell is None:
        return f"null in the column {column}"
    return unreadable_reason(cell) or "cannot be decoded"


@functools.lru_cache(maxsize=1)  # unreadable images are asked for in their order
def _images(path: str, group: int, column: str) -> pa.Array:
    with pq.ParquetFile(path) as file:
        return image_bytes(file.read_row_group(group, columns=[column])[column])


def image_bytes(column: pa.ChunkedArray) -> pa.Array:
    """The bytes of a column of images; null where the cell, or its field bytes, is null."""
    whole = column.combine_chunks()
    return pc.struct_field(whole, "bytes") if pa.types.is_struct(whole.type) else whole


def opened(start: str, path: str) -> pq.ParquetFile:
    """A file whose footer can be read; raises `UserError` for another."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        reason = cause(error) if os.path.getsize(path) else "an empty file"
        raise UserError(
            f"{start}: expected a Parquet file. Received: {path} ({reason}); mend or remove it."
        ) from error


def columns(start: str, schema: pa.Schema) -> Columns:
    """The image and label columns of a schema; the names of classes as Hugging Face keeps them."""

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(each.name == "bytes" and holds_bytes(each.type) for each in kind)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    images = [field.name for field in schema if holds_bytes(field.type)]
    if not images:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{start}: expected a column of image bytes, or of struct with a field bytes. "
            f"Received: {found}; write the images' bytes, or name files by --dataset=list:FILE."
        )
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    classes = [key for key, each in features.items() if each.get("_type") == "ClassLabel"]
    label = "label" if "label" in schema.names else next(iter(classes), "")
    if label and not pa.types.is_integer(schema.field(label).type):
        raise UserError(
            f"{start}: expected whole numbers in the column {label}. Received: "
            f"{schema.field(label).type}; number the classes, or rename the column to train "
            "without labels."
        )
    names = features.get(label, {}).get("names", ())
    return Columns("image" if "image" in images else images[0], label, tuple(names))
