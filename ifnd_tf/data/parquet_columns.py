"""The files of `parquet:GLOB` and their columns, looked at without TensorFlow."""

import functools
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
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


class Footer(NamedTuple):
    """What a file's footer says: its columns, and its row groups."""

    schema: pa.Schema
    metadata: pq.FileMetaData


def check(start: str, paths: Sequence[str]) -> None:
    """Raises `UserError` if the files cannot hold images; reads their footers only.

    Args:
        start: of the message: the flag and its value.
        paths: of the files.
    """
    footers = [footer(start, path) for path in paths]
    if not any(each.metadata.num_rows for each in footers):
        raise UserError(
            f"{start}: expected rows. Received: none in {counted(len(paths), 'file')}, such as "
            f"{paths[0]}."
        )
    columns(start, paths, [each.schema for each in footers])


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


def footer(start: str, path: str) -> Footer:
    """The footer of a file, which is closed again; raises `UserError` if it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return Footer(file.schema_arrow, file.metadata)
    except (OSError, pa.ArrowException) as error:
        reason = cause(error) if os.path.getsize(path) else "an empty file"
        raise UserError(
            f"{start}: expected a Parquet file. Received: {path} ({reason}); mend or remove it."
        ) from error


def columns(start: str, paths: Sequence[str], schemas: Sequence[pa.Schema]) -> Columns:
    """The image and label columns of the first file, which all have, and the classes' names.

    Args:
        start: of the message: the flag and its value.
        paths: of the files.
        schemas: of the same files.

    Raises:
        UserError: if a file has no such column, or one of another kind.
    """
    first = schemas[0]
    if twice := sorted({name for name in first.names if first.names.count(name) > 1}):
        raise UserError(
            f"{start}: expected every column once. Received: {', '.join(twice)} twice in "
            f"{paths[0]}; rename one."
        )
    images = [field.name for field in first if _holds_bytes(field.type)]
    if not images:
        received = ", ".join(f"{field.name} ({field.type})" for field in first)
        raise UserError(
            f"{start}: expected a column of image bytes, or of struct with a field bytes. "
            f"Received: {received}; write the images' bytes, or name files by --dataset=list:FILE."
        )
    classes = _class_names(first)
    label = "label" if "label" in first.names else next(iter(classes), "")
    found = Columns("image" if "image" in images else images[0], label, classes.get(label, ()))
    for path, schema in zip(paths, schemas, strict=True):
        missing = {found.image, found.label} - {"", *schema.names}
        if missing:
            raise UserError(
                f"{start}: expected the columns of {paths[0]} in all files. Received: {path} "
                f"without {', '.join(sorted(missing))}."
            )
        if not _holds_bytes(schema.field(found.image).type):
            raise UserError(
                f"{start}: expected image bytes in the column {found.image}, as in {paths[0]}. "
                f"Received: {schema.field(found.image).type} in {path}; mend or remove it."
            )
        if label and not pa.types.is_integer(schema.field(label).type):
            raise UserError(
                f"{start}: expected whole numbers in the column {label}. Received: "
                f"{schema.field(label).type} in {path}; number the classes, or rename the column "
                "to train without labels."
            )
    return found


def labels(column: pa.ChunkedArray) -> np.ndarray:
    """int32 labels; -1 for null.

    Raises:
        pa.ArrowInvalid: if one does not fit.
    """
    return pc.cast(column, pa.int32()).fill_null(-1).to_numpy()


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(each.name == "bytes" and _holds_bytes(each.type) for each in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """The names of classes by column, as Hugging Face keeps them; of odd metadata none."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        features = [(name, kind) for name, kind in found.items() if isinstance(kind, dict)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {
        name: tuple(map(str, kind.get("names") or ()))
        for name, kind in features
        if kind.get("_type") == "ClassLabel" and name in schema.names
    }
