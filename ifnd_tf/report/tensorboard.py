"""A run's pictures for TensorBoard: galleries under IMAGES, and the embedding's PROJECTOR."""

import io
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import projector

from ifnd_tf.report import picture_file
from ifnd_tf.report.picture_file import Exhibits, Picture

_ROWS = 24
_FRAME = 3  # Pixels around each picture of a gallery; they hold the right or wrong mark's colour.
_PAPER, _RIGHT, _WRONG = (255, 255, 255), (0, 158, 115), (213, 94, 0)  # Okabe and Ito


def write_pictures(folder: str, gathered: Exhibits, embedding: np.ndarray, step: int) -> None:
    """Adds galleries to the events, and replaces the projector's files.

    Args:
        folder: events/, local or gs://.
        gathered: the pictures.
        embedding: float [M, D], a row for each point of the map.
        step: training steps done.
    """
    pictures = gathered.pictures
    galleries: dict[str, list[list[tuple[int, tuple]]]] = {
        f"clusters/level {level}": [
            [(index, _PAPER) for index in (*cluster.most, *cluster.least)] for cluster in clusters
        ]
        for level, clusters in enumerate(gathered.clusters, start=1)
    }
    galleries["removed negatives (anchor first)"] = [
        [(each.anchor, _PAPER), *((i, _mark(pictures, each.anchor, i)) for i in each.shown)]
        for each in gathered.removed
    ]
    galleries["nearest neighbours (query first)"] = [
        [(index, _PAPER) for index in (found.query, *found.nearest)]
        for found in gathered.neighbours
    ]
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step):
        for name, rows in galleries.items():
            known = [[(i, mark) for i, mark in row if str(i) in pictures] for row in rows[:_ROWS]]
            if any(known):
                tf.summary.image(name, _gallery(pictures, known)[None])
    writer.close()
    if gathered.map:
        _write_projector(folder, gathered, embedding)


def _mark(pictures: dict[str, Picture], anchor: int, other: int) -> tuple[int, int, int]:
    labels = [pictures[str(i)].label if str(i) in pictures else -1 for i in (anchor, other)]
    if min(labels) < 0:
        return _PAPER
    return _RIGHT if labels[0] == labels[1] else _WRONG


def _gallery(
    pictures: dict[str, Picture], rows: Sequence[Sequence[tuple[int, tuple]]]
) -> np.ndarray:
    """uint8 [H, W, 3]: one row of framed pictures under the other."""
    tiles = [picture_file.decode([pictures[str(index)] for index, _ in row]) for row in rows]
    side = max(tile.shape[0] for row in tiles for tile in row) + 2 * _FRAME
    sheet = np.full([side * len(rows), side * max(map(len, rows)), 3], 255, np.uint8)
    for y, (row, images) in enumerate(zip(rows, tiles, strict=True)):
        for x, ((_, mark), image) in enumerate(zip(row, images, strict=True)):
            cell = sheet[y * side : (y + 1) * side, x * side : (x + 1) * side]
            cell[:] = mark
            cell[_FRAME:-_FRAME, _FRAME:-_FRAME] = image
    return sheet


def _write_projector(folder: str, gathered: Exhibits, embedding: np.ndarray) -> None:
    shown = [gathered.pictures[str(point.example)] for point in gathered.map]
    levels = len(gathered.map[0].clusters)
    header = ["image", "class", *(f"cluster, level {level + 1}" for level in range(levels))]
    rows = [
        [picture.name, gathered.class_name(picture.label), *map(str, point.clusters)]
        for picture, point in zip(shown, gathered.map, strict=True)
    ]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in [header, *rows]]
    thumbnails = picture_file.decode(shown)
    side, across = thumbnails[0].shape[0], math.ceil(math.sqrt(len(thumbnails)))
    sprite = np.zeros([side * -(-len(thumbnails) // across), side * across, 3], np.uint8)
    for place, image in enumerate(thumbnails):
        y, x = divmod(place, across)
        sprite[y * side : (y + 1) * side, x * side : (x + 1) * side] = image
    file = io.BytesIO()
    Image.fromarray(sprite).save(file, "PNG")
    tensors = "\n".join("\t".join(f"{value:.4g}" for value in row) for row in embedding)
    for name, content in (
        ("embedding.tsv", tensors.encode()),
        ("images.tsv", ("\n".join(lines) + "\n").encode()),
        ("sprite.png", file.getvalue()),
    ):
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as target:
            target.write(content)
    config = projector.ProjectorConfig()
    entry = config.embeddings.add()
    entry.tensor_name, entry.tensor_path = "embedding", "embedding.tsv"
    entry.metadata_path = "images.tsv"
    entry.sprite.image_path = "sprite.png"
    entry.sprite.single_image_dim.extend([side, side])
    projector.visualize_embeddings(folder, config)
