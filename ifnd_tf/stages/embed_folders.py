"""`--embed_folders`: the image files of a run, sorted into a folder for each cluster."""

import os
import shutil
from collections.abc import Iterator, Sequence

import numpy as np

from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.file_source import FileSource
from ifnd_tf.data.source import Source
from ifnd_tf.errors import UserError

FOLDER = "embeddings/clusters"


def check(how: str, splits: Splits, folder: str) -> None:
    """Raises `UserError` if the images cannot be sorted; called before they are embedded.

    Args:
        how: of `--embed_folders`.
        splits: the images.
        folder: where the clusters' folders go.
    """
    for source in filter(None, splits):
        if not isinstance(source, FileSource):
            raise UserError(
                f"--embed_folders={how}: expected images that are files, of folder: or list:. "
                f"Received: {source.name}; leave it out and use embeddings/clusters.csv."
            )
        if "://" in folder or "://" in source.path(0):
            raise UserError(
                f"--embed_folders={how}: expected images and --workdir on disks of this machine. "
                f"Received: {source.path(0)} and {folder}; use embeddings/clusters.csv."
            )
    if os.path.isdir(folder) and os.listdir(folder):
        raise UserError(
            f"--embed_folders={how}: expected no folders of earlier clusters, in which you may "
            f"have sorted by hand. Received: {folder}; move or remove it."
        )


def write(
    how: str,
    images: Sequence[tuple[Source, np.ndarray]],
    clusters: np.ndarray,
    folder: str,
) -> None:
    """Links or copies each file into the folder of its cluster.

    Args:
        how: link or copy.
        images: sources of files and the indices of their images.
        clusters: int `[N]`, of each of these images in turn.
        folder: where the clusters' folders go.
    """
    files = [
        source.path(index)
        for source, indices in images
        if isinstance(source, FileSource)
        for index in indices
    ]
    put = os.symlink if how == "link" else shutil.copy2
    try:
        for file, place in zip(files, _places(files, clusters.tolist()), strict=True):
            path = os.path.join(folder, place)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            put(os.path.abspath(file), path)
    except OSError as error:
        # `check` found it empty; half filled, it would refuse the next attempt.
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(file):
            raise UserError(
                f"--embed_folders={how}: expected the image files that were embedded. Received: "
                f"{file}, which is gone; bring it back, or run --mode=embed again without it."
            ) from error
        raise UserError(
            f"--embed_folders={how}: expected a disk with room for files and links. "
            f"Received: {error}; try {'copy' if how == 'link' else 'link'}."
        ) from error


def _places(files: Sequence[str], clusters: Sequence[int]) -> Iterator[str]:
    """NNN/name of each file, with a number added to a name that the cluster has already."""
    digits = max(3, len(str(max(clusters))))
    taken: dict[str, int] = {}  # place -> the last number added to its name
    for file, cluster in zip(files, clusters, strict=True):
        stem, extension = os.path.splitext(os.path.basename(file))
        first = place = f"{cluster:0{digits}}/{stem}{extension}"
        number = taken.get(first.casefold(), 1)  # many file systems ignore case
        while place.casefold() in taken:
            number += 1
            place = f"{cluster:0{digits}}/{stem}-{number}{extension}"
        taken[place.casefold()] = 1
        taken[first.casefold()] = number
        yield place
