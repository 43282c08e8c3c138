"""A run's pictures for TensorBoard: galleries under IMAGES, the embedding under PROJECTOR."""

import io
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from tensorboard.plugins import projector

from ifnd_tf.report.pictures import Pictures, decode

_ROWS = 24
_FRAME = 3  # Pixels around each image of a gallery, in the colour of its mark.
_COLOURS = {"": "#ffffff", "right": "#009e73", "wrong": "#d55e00"}  # Okabe and Ito


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
            _framed(pictures, [*c.most, *c.least]) for c in clusters[:_ROWS]
        ]
        for level, clusters in enumerate(pictures.clusters, start=1)
    }
    galleries["removed negatives (anchor first)"] = [
        _framed(pictures, [each.anchor]) + _framed(pictures, each.shown, each.anchor)
        for each in pictures.removed[:_ROWS]
    ]
    galleries["nearest neighbours (query first)"] = [
        _framed(pictures, [found.query, *found.nearest]) for found in pictures.neighbours[:_ROWS]
    ]
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default(step):
        for name, gallery in galleries.items():
            if rows := [row for row in gallery if row]:
                tf.summary.image(name, np.asarray(_sheet(rows, "white"))[None])
    writer.close()
    if pictures.map:
        _write_projector(folder, pictures, embedding)


def _framed(
    pictures: Pictures, indices: Sequence[int], anchor: int | None = None
) -> list[Image.Image]:
    """Images in frames, coloured by whether they have the anchor's class, if that is known."""
    return [
        ImageOps.expand(decode(pictures.pictures[i]), _FRAME, _COLOURS[pictures.mark(i, anchor)])
        for i in pictures.known(indices)
    ]


def _sheet(rows: Sequence[Sequence[Image.Image]], background: str) -> Image.Image:
    """Rows of square images of one size, one under the other."""
    side = rows[0][0].width
    sheet = Image.new("RGB", (side * max(map(len, rows)), side * len(rows)), background)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (side * x, side * y))
    return sheet


def _write_projector(folder: str, pictures: Pictures, embedding: np.ndarray) -> None:
    shown = [pictures.pictures[point.example] for point in pictures.map]
    levels = len(pictures.map[0].clusters)
    header = ["image", "class", *(f"cluster, level {level + 1}" for level in range(levels))]
    rows = [
        [each.name, pictures.class_name(each.label), *map(str, point.clusters)]
        for each, point in zip(shown, pictures.map, strict=True)
    ]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in [header, *rows]]
    thumbnails = [decode(each) for each in shown]
    across = math.ceil(math.sqrt(len(thumbnails)))
    starts = range(0, len(thumbnails), across)
    sprite = _sheet([thumbnails[start : start + across] for start in starts], "black")
    file = io.BytesIO()
    sprite.save(file, "PNG")
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
    entry.sprite.single_image_dim.extend(thumbnails[0].size)
    projector.visualize_embeddings(folder, config)
