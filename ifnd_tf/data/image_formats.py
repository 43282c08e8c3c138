"""Image formats by their extension and by their first bytes."""

import contextlib
import functools
import importlib.util
import io
import logging
import warnings
from typing import Any

from ifnd_tf.run.words import counted

# Formats that are read, by the extensions of their files.
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif"),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".jpx"),
}
FORMAT_BY_EXTENSION = {extension: name for name, all_ in EXTENSIONS.items() for extension in all_}
# The first bytes that `format_of` needs.
SIGNATURE_BYTES = 16
_SIGNATURES = {
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "PNG": ((0, b"\x89PNG"),),
    "BMP": ((0, b"BM"),),
    "GIF": ((0, b"GIF8"),),
    "WebP": ((8, b"WEBP"),),
    "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    "HEIC": tuple((4, b"ftyp" + b) for b in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heif")),
    "AVIF": ((4, b"ftypavif"), (4, b"ftypavis")),
    "JPEG 2000": ((4, b"jP  "), (0, b"\xff\x4f\xff\x51")),
}
# Archives, whose images are not read.
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".xz", ".bz2", ".zst")
# Extensions of cameras' raw files. Most begin as TIFF does; Pillow reads only a small preview.
RAW = {
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
# Extensions of other files beside images, often many: their first bytes are not read.
NO_IMAGES = {
    *RAW,
    ".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".py", ".npy", ".npz", ".html", ".yaml", ".yml",
    ".db", ".ini", ".log", ".pkl", ".h5", ".mat", ".parquet", *ARCHIVES,
}  # fmt: skip
# Beginnings of the names of files and folders that no person made.
HIDDEN = (".", "__MACOSX")
# Format -> the module that Pillow needs for it, and the package to install.
_PLUGINS = {"HEIC": ("pillow_heif", "pillow-heif")}


def format_of(head: bytes) -> str:
    """The format of a file that begins with `head`, or ""."""
    for name, signatures in _SIGNATURES.items():
        if any(head[place:].startswith(text) for place, text in signatures):
            return name
    return ""


@functools.cache
def missing_plugin(name: str) -> str:
    """The package to install for a format, or "" if it can be read."""
    module, package = _PLUGINS.get(name, ("", ""))
    return package if module and importlib.util.find_spec(module) is None else ""


@functools.cache
def readable_extensions() -> tuple[str, ...]:
    """Extensions of the formats that can be read here."""
    return tuple(e for e, name in FORMAT_BY_EXTENSION.items() if not missing_plugin(name))


@functools.cache
def pillow() -> Any:
    """The module PIL.Image, with the plug-ins that are installed, for images of any size.

    Callers check the size of an image before decoding (`decode.Decoding`).
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    # Damaged images are named in unreadable.tsv.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return Image


def more_than_eight_bits(contents: bytes) -> bool:
    """Whether an image has more than 8 bits a channel, by its header."""
    if format_of(contents[:SIGNATURE_BYTES]) == "PNG":
        return contents[24:25] == b"\x10"
    with contextlib.suppress(OSError), pillow().open(io.BytesIO(contents)) as image:
        return image.mode[0] in "IF"
    return False


def unreadable_reason(contents: bytes) -> str:
    """Why bytes cannot be an image that is read here, or "" where their start is in order."""
    if not contents:
        return "empty file"
    name = format_of(contents[:SIGNATURE_BYTES])
    if not name:
        return f"no image that is read here: begins with {contents[:8]!r}"
    if len(contents) < 32:
        return f"truncated {name}: {counted(len(contents), 'byte')}"
    package = missing_plugin(name)
    return f"{name} needs pip install {package}" if package else ""
