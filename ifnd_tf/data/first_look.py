"""A first look at a folder or list of images, without TensorFlow: mistakes are answered at once."""

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
    SIGNATURE_BYTES,
    format_of,
)
from ifnd_tf.errors import UserError

# Files after which a walk is left to the run, which counts on the terminal.
_ENOUGH = 10_000
# Images of a list that are looked for.
_LOOKED_FOR = 20


def image_list(path: str, data_dir: str = "") -> None:
    """Raises `UserError` if none of the first images of a list on this machine's disk is there.

    Args:
        path: the list.
        data_dir: folder to which its paths are relative; "": its own.
    """
    root = os.path.expanduser(data_dir) or os.path.dirname(path) or "."
    with contextlib.suppress(UnicodeDecodeError), open(path, "rb") as file:
        text = file.read(1 << 16).removeprefix(codecs.BOM_UTF8).decode()
        lines = enumerate(text.split("\n"), start=1)
        rows = [(number, line.split("\t")[0].strip()) for number, line in lines if line.strip()]
        if rows and "://" not in root:
            require_found(path, rows[0][0], root, [image for _, image in rows], os.path.exists)


def require_found(
    path: str, line: int, root: str, images: Sequence[str], exists: Callable[[str], bool]
) -> None:
    """Raises `UserError` if none of the first images of a list is there.

    Args:
        path: the list.
        line: number of the first image's line.
        root: folder to which the images are relative.
        images: as the list names them.
        exists: whether there is a file.
    """
    if any(exists(os.path.join(root, image)) for image in images[:_LOOKED_FOR]):
        return
    comma = " Put a tab, not a comma, before the label." if "," in images[0] else ""
    where = root if "://" in root else os.path.abspath(root)
    raise UserError(
        f"{path}, line {line}: expected paths relative to {where}. Received: {images[0]!r}, which "
        f"does not exist there, nor do the lines after it.{comma}"
    )


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
    if held[".parquet"]:
        hint = f" Did you mean --{flag}='parquet:{path.rstrip('/')}/**/*.parquet'?"
    raise UserError(
        f"{start}: expected image files ({', '.join(EXTENSIONS)}) in {path} or its subfolders. "
        f"Received: none{', but ' * bool(listed)}{', '.join(listed)}.{hint}"
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
