"""A first look at a folder or list of images, without TensorFlow: mistakes are reported at once."""

import codecs
import collections
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from ifnd_tf.data.image_formats import (
    EXTENSIONS,
    FORMAT_BY_EXTENSION,
    HIDDEN,
    NO_IMAGES,
    RAW,
    SIGNATURE_BYTES,
    format_of,
)
from ifnd_tf.errors import UserError

# Files after which this walk gives up: the run's own walk shows its count on the terminal.
_ENOUGH = 10_000
# Bytes of a list that are checked before the run, and how many of its images are looked for.
_LOOK_BYTES = 1 << 16
_LOOKED_FOR = 20


def image_list(path: str, data_dir: str = "") -> None:
    """Raises `UserError` if none of the first images of a list on this machine's disk is there.

    Args:
        path: the list.
        data_dir: folder to which its paths are relative; "": its own.
    """
    root = os.path.expanduser(data_dir) or os.path.dirname(path) or "."
    with open(path, "rb") as file:
        text = file.read(_LOOK_BYTES)
    lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if len(text) == _LOOK_BYTES:
        lines.pop()  # cut off
    rows = [(n, parse_line(path, n, line)[0]) for n, line in enumerate(lines, 1) if line.strip()]
    if rows and "://" not in root:
        require_found(path, rows[0][0], root, [image for _, image in rows], os.path.isfile)
    elif not rows and len(text) < _LOOK_BYTES:
        raise empty_list(path)


def empty_list(path: str) -> UserError:
    """The error for a list without a line."""
    return UserError(f"{path}: expected lines of path<tab>label. Received: an empty list.")


def parse_line(path: str, number: int, line: bytes) -> tuple[str, str]:
    """The image and the label, "" for none, of a line of a list.

    Args:
        path: the list.
        number: of the line, from 1.
        line: with or without a carriage return at its end.

    Raises:
        UserError: for other bytes than UTF-8, more than two columns or no path.
    """
    start = f"{path}, line {number}: expected path<tab>label in UTF-8."
    try:
        text = line.rstrip(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{start} Received: other bytes. Save the list as UTF-8.") from error
    if "\r" in text:
        raise UserError(
            f"{start} Received: {text[:60]!r}..., with carriage returns alone between lines. Save "
            "the list with the line ends of Unix or Windows."
        )
    parts = [part.strip() for part in text.split("\t")]
    if len(parts) > 2 or not parts[0] or "\0" in text:
        raise UserError(f"{start} Received: {text!r}. Mend or remove the line.")
    return parts[0], parts[1] if len(parts) == 2 else ""


def require_found(
    path: str, line: int, root: str, images: Sequence[str], is_file: Callable[[str], bool]
) -> None:
    """Raises `UserError` if none of the first images of a list is there, or if it has a header.

    Args:
        path: the list.
        line: number of the first image's line.
        root: folder to which the images are relative.
        images: as the list names them.
        is_file: whether there is a file.
    """
    first = images[0]
    found = [is_file(os.path.join(root, image)) for image in images[:_LOOKED_FOR]]
    if any(found):
        if not found[0] and not set("./") & set(first):
            raise UserError(
                f"{path}, line {line}: expected an image. Received: {first!r}, a column's name; "
                "remove the line."
            )
        return
    where = root if "://" in root else os.path.abspath(root)
    raise UserError(
        f"{path}, line {line}: expected paths relative to {where}. Received: {first!r}, which "
        f"is no file there, and neither are the next.{_separator(root, first, is_file)}"
    )


def _separator(root: str, first: str, is_file: Callable[[str], bool]) -> str:
    """The advice if the first image is missing because of the list's format; else ""."""
    if first[0] in "\"'":
        return " Write paths and labels without quotes, with a tab between them."
    for mark, word in ((",", "comma"), (";", "semicolon")):
        if mark in first:
            return f" Put a tab, not a {word}, before the label."
    before = first.rpartition(" ")[0]
    if before and is_file(os.path.join(root, before)):
        return " Put a tab, not a space, before the label."
    return ""


def folder(start: str, flag: str, path: str) -> None:
    """Raises `UserError` if no file of a folder looks like an image.

    Args:
        start: of the message: the flag and its value.
        flag: the flag alone.
        path: the folder.
    """
    held: collections.Counter[str] = collections.Counter()
    denied: list[OSError] = []
    if _holds_images(path, held, denied):
        return
    listed = [f"{count:,} {extension}" for extension, count in held.most_common(5)]
    listed += [f"{error.filename} ({error.strerror})" for error in denied[:3]]
    hint = " Name the folder that holds the images, or unpack its archive."
    if RAW & set(held):
        hint = " Pillow reads no raw photos: export raw photos as JPEG."
    if held[".parquet"]:
        hint = f" Did you mean --{flag}='parquet:{path.rstrip('/')}/**/*.parquet'?"
    received = f"none, but {', '.join(listed)}" if listed else "none"
    raise UserError(
        f"{start}: expected image files ({', '.join(EXTENSIONS)}) in {path} or its subfolders. "
        f"Received: {received}.{hint}"
    )


def _holds_images(path: str, others: collections.Counter[str], denied: list[OSError]) -> bool:
    """Whether any file looks like an image; the walk ends at the first, or after very many files.

    Args:
        path: the folder.
        others: gets the other files by extension.
        denied: gets the errors of folders that cannot be read.
    """
    extensions = tuple(FORMAT_BY_EXTENSION)
    for folder, names in _folders(path, denied):
        for name in names:
            if name.lower().endswith(extensions) or others.total() >= _ENOUGH:
                return True
            extension = os.path.splitext(name)[1].lower()
            others[extension or "no extension"] += 1
            full = os.path.join(folder, name)
            if extension in NO_IMAGES or not os.path.isfile(full):  # a pipe would wait
                continue
            with contextlib.suppress(OSError), open(full, "rb") as file:
                if format_of(file.read(SIGNATURE_BYTES)):
                    return True
    return False


def _folders(path: str, denied: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """The folders below a path with the names of their files; each once, however it is linked."""
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=denied.append):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        yield folder, [name for name in names if not name.startswith(HIDDEN)]
