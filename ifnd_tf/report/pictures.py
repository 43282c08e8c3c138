"""The pictures of a report, and report/pictures.json, the file that keeps them."""

import base64
import dataclasses
import io
import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from ifnd_tf.errors import UserError
from ifnd_tf.run.records import PICTURES, RunReader


class Thumbnail(NamedTuple):
    """A small picture of one training image.

    Attributes:
        name: its file's name, or another identifier.
        label: its class, -1 where unknown.
        webp: the encoded image in base64.
    """

    name: str
    label: int
    webp: str


class Cluster(NamedTuple):
    """One cluster of one level.

    Attributes:
        number: its pseudo-label.
        size: accepted images in it.
        share: share of its members of known class that have the most frequent one; None: no
            member's class is known.
        label: that class, or -1.
        most: indices of the most confident members, the first the most confident.
        least: indices of the least confident ones, the first the least confident.
    """

    number: int
    size: int
    share: float | None
    label: int
    most: list[int]
    least: list[int]


class Removed(NamedTuple):
    """An anchor and some of the negatives that were detected as false and removed from its loss.

    Attributes:
        anchor: index of the anchor.
        total: how many images are removed for it, of the whole data set.
        right: share of these that have the anchor's class; None: unknown.
        shown: indices of some of them, drawn at random.
        levels: for each shown one, the levels (from 0) that detect it.
    """

    anchor: int
    total: int
    right: float | None
    shown: list[int]
    levels: list[list[int]]


class Neighbours(NamedTuple):
    """An image and its nearest neighbours by cosine similarity.

    Attributes:
        query: index of the image.
        nearest: indices, the most similar first.
        cosine: their cosine similarities.
    """

    query: int
    nearest: list[int]
    cosine: list[float]


class Point(NamedTuple):
    """An image's place on the map of the embedding.

    Attributes:
        example: its index.
        x, y: its place, without unit.
        clusters: its pseudo-label of each level, -1 where not accepted.
    """

    example: int
    x: float
    y: float
    clusters: list[int]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """All pictures of a report.

    Attributes:
        epoch: epochs trained when they were collected.
        refresh: the epoch before which the pseudo-labels were found; None: not yet.
        searched: embedded images, of which map and neighbours are drawn.
        projection: how the map's two dimensions came about.
        class_names: the classes, by label.
        pictures: thumbnails by the example's index; unreadable images have none.
        clusters: of each level.
        removed: detected false negatives.
        neighbours: of random queries.
        map: the embedding in two dimensions.
    """

    epoch: int
    refresh: int | None
    searched: int
    projection: str
    class_names: list[str]
    pictures: dict[int, Thumbnail]
    clusters: list[list[Cluster]]
    removed: list[Removed]
    neighbours: list[Neighbours]
    map: list[Point]

    def class_name(self, label: int) -> str:
        """The class's name, its number where it has none, "" where it is unknown."""
        if label < 0:
            return ""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def known(self, indices: Iterable[int]) -> list[int]:
        """The images among these that have a thumbnail."""
        return [index for index in indices if index in self.pictures]

    def mark(self, index: int, anchor: int | None) -> str:
        """Whether an image has an anchor's class: "right" or "wrong"; "" where that is unknown."""
        own, other = (self.pictures[i].label if i in self.pictures else -1 for i in (index, anchor))
        if own < 0 or other < 0:
            return ""
        return "right" if own == other else "wrong"

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps(vars(self), separators=(",", ":"))


def read(path: str) -> Pictures | None:
    """The pictures of a run directory; None if it has none.

    Raises:
        UserError: if the file is damaged.
    """
    reader = RunReader(path)
    content = reader.pictures()
    if not content:
        return None
    try:
        content["pictures"] = {int(i): Thumbnail(*row) for i, row in content["pictures"].items()}
        content["clusters"] = [[Cluster(*row) for row in level] for level in content["clusters"]]
        for name, kind in (("removed", Removed), ("neighbours", Neighbours), ("map", Point)):
            content[name] = [kind(*row) for row in content[name]]
        content["map"] = [p for p in content["map"] if p.example in content["pictures"]]
        return Pictures(**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"Expected the pictures of a report in {reader.file(PICTURES)}. Received: {error}; "
            "remove the file, or train again."
        ) from error


def encode(pixels: np.ndarray) -> str:
    """A thumbnail as WebP in base64: half of JPEG's size for so few pixels.

    Args:
        pixels: uint8 [h, w, 3].
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=80, method=2)
    return base64.b64encode(file.getvalue()).decode()


def decode(thumbnail: Thumbnail) -> Image.Image:
    """The image of a thumbnail, RGB."""
    return Image.open(io.BytesIO(base64.b64decode(thumbnail.webp))).convert("RGB")
