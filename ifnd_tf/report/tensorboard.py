"""A run's pictures for TensorBoard: galleries under IMAGES, the embedding under PROJECTOR."""

import io
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import projector

from ifnd_tf.report.pictures import Pictures, decode

_ROWS = 24
_FRAME = 3  # Pixels around each image of a gallery, in the colour of its mark.
_PAPER, _RIGHT, _WRONG = (255, 255, 255), (0, 158, 115), (213, 94, 0)  # Okabe and Ito


def write_pictures(folder: str, pictures: Pictures, embedding: np.ndarray, step: int) -> None:
    """Adds galleries to the events, and replaces the projector's files.

    Args:
        folder: events/, local or gs://.
        pictures: the run's pictures.
        embedding: float [M, D], a row for each point of the map.
        step: training steps done.
    """
    galleries = {
        f"clusters/level {level}": [
            [_framed(pictures, index) for index in (*cluster.most, *cluster.least)]
            for cluster in clusters[:_ROWS]
        ]
        for level, clusters in enumerate(pictures.clusters, start=1)
    }
    galleries["removed negatives (anchor first)"] = [
        [_framed(pictures, index, each.anchor) for index in (each.anchor, *each.shown)]
        for each in pictures.removed[:_ROWS]
    ]
    galleries["nearest neighbours (query first)"] = [
        [_framed(pictures, index) for index in (found.query, *found.nearest)]
        for found in pictures.neighbours[:_ROWS]
    ]
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step):
        for name, rows in galleries.items():
            known = [[image for image in row if image is not None] for row in rows]
            if any(known):
                tf.summary.image(name, _sheet([row for row in known if row], 255)[None])
    writer.close()
    if pictures.map:
        _write_projector(folder, pictures, embedding)


def _framed(pictures: Pictures, index: int, anchor: int | None = None) -> np.ndarray | None:
    """An image in a frame, coloured if its class and that of another anchor are known."""
    own, other = (pictures.pictures.get(str(each)) for each in (index, anchor))
    if own is None:
        return None
    frame = _PAPER
    if other is not None and index != anchor and min(own.label, other.label) >= 0:
        frame = _RIGHT if own.label == other.label else _WRONG
    (pixels,) = decode([own])
    framed = np.full(np.add(pixels.shape, [2 * _FRAME, 2 * _FRAME, 0]), frame, np.uint8)
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = pixels
    return framed


def _sheet(rows: Sequence[Sequence[np.ndarray]], background: int) -> np.ndarray:
    """uint8 [H, W, 3]: rows of square images of one size, one under the other."""
    side = rows[0][0].shape[0]
    sheet = np.full([side * len(rows), side * max(map(len, rows)), 3], background, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = image
    return sheet


def _write_projector(folder: str, pictures: Pictures, embedding: np.ndarray) -> None:
    shown = [pictures.pictures[str(point.example)] for point in pictures.map]
    levels = len(pictures.map[0].clusters)
    header = ["image", "class", *(f"cluster, level {level + 1}" for level in range(levels))]
    rows = [
        [each.name, pictures.class_name(each.label), *map(str, point.clusters)]
        for each, point in zip(shown, pictures.map, strict=True)
    ]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in [header, *rows]]
    thumbnails = decode(shown)
    across = math.ceil(math.sqrt(len(thumbnails)))
    starts = range(0, len(thumbnails), across)
    sprite = _sheet([thumbnails[start : start + across] for start in starts], 0)
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
    entry.sprite.single_image_dim.extend(thumbnails[0].shape[:2])
    projector.visualize_embeddings(folder, config)
