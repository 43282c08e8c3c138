"""Class folders of images of one size -> one .npz for `jax_runner`.

    python -m jax_runner.pixels data/cifar10 cifar10.npz      # or cifar10.tgz, packed

Needs Pillow and NumPy, no TensorFlow: it runs on the machine with the accelerator. Images come
in the order in which `--dataset=folder:` numbers them, so a run lowered elsewhere fits.
"""

import argparse
import io
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError

_SUFFIXES = {".jpg", ".jpeg", ".png"}


def _files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Relative path and content of every image file of a folder or a tar archive."""
    if source.is_dir():
        for found in source.rglob("*"):
            if found.suffix.lower() in _SUFFIXES:
                yield PurePosixPath(found.relative_to(source).as_posix()), found.read_bytes()
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isfile() and path.suffix.lower() in _SUFFIXES:
                    content = archive.extractfile(member)
                    assert content is not None
                    yield path, content.read()
    except (OSError, tarfile.TarError) as error:
        raise UserError(
            f"expected a folder or a tar archive. Received: {source} ({error})."
        ) from error


def read(source: Path) -> dict[str, Any]:
    """Arrays `train_images`, `train_labels`, `test_images`, `test_labels`.

    Args:
        source: holds train/CLASS/* and test/CLASS/*, perhaps below one folder more.

    Raises:
        UserError: it does not, or images differ in size.
    """
    found: dict[str, list[tuple[str, str, bytes]]] = {"train": [], "test": []}
    for path, content in _files(source):
        part, label = path.parts[-3:-1] if len(path.parts) >= 3 else ("", "")
        if part in found:
            found[part].append((label, path.as_posix(), content))
    if not found["train"]:
        raise UserError(f"expected train/CLASS/*.jpg in {source}. Received: no such image.")
    classes = sorted({label for label, _, _ in found["train"]})
    arrays: dict[str, Any] = {}
    for part, files in found.items():
        files.sort(key=lambda file: file[1])
        unknown = sorted({label for label, _, _ in files} - set(classes))
        if unknown:
            raise UserError(f"expected the classes of train in {part}. Received: {unknown}.")
        with ThreadPoolExecutor() as pool:
            pixels = list(pool.map(_decode, (content for _, _, content in files)))
        shapes = {image.shape for image in pixels}
        if len(shapes) > 1:
            raise UserError(f"expected images of one size. Received: {sorted(shapes)} in {part}.")
        if pixels:
            arrays[f"{part}_images"] = np.stack(pixels)
            labels = [classes.index(label) for label, _, _ in files]
            arrays[f"{part}_labels"] = np.array(labels, np.int32)
    return arrays


def _decode(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("source", type=Path, help="folder or tar archive")
    parser.add_argument("out", type=Path, metavar="FILE.npz")
    options = parser.parse_args(arguments)
    try:
        arrays = read(options.source)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    np.savez(options.out, **arrays)
    print(f"{options.out}: " + ", ".join(f"{k} {v.shape}" for k, v in arrays.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
