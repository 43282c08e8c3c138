"""What a report shows as pictures, and the one file of the run directory that keeps it."""

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ifnd_tf.errors import UserError
from ifnd_tf.report.picture_choice import Cluster, Neighbours, Removed
from ifnd_tf.run import text_files

FILE = "report/pictures.json"


class Picture(NamedTuple):
    """A thumbnail of one training image.

    Attributes:
        name: its file's name, or what else identifies it.
        label: its class, -1 where unknown.
        webp: the encoded image in base64.
    """

    name: str
    label: int
    webp: str


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
class Exhibits:
    """All pictures of a report, chosen and drawn when they were gathered.

    Attributes:
        epoch: epochs trained by then.
        refresh: the epoch before which the pseudo-labels were found; None: not yet.
        searched: images that were embedded, to draw the map and find neighbours among.
        projection: how the map's two dimensions came about.
        class_names: the classes, by label.
        pictures: by the example's index, as text since JSON has no other keys.
        clusters: of each level.
        removed: false negatives that the loss leaves out.
        neighbours: of random queries.
        map: the embedding in two dimensions.
    """

    epoch: int
    refresh: int | None
    searched: int
    projection: str
    class_names: list[str]
    pictures: dict[str, Picture]
    clusters: list[list[Cluster]]
    removed: list[Removed]
    neighbours: list[Neighbours]
    map: list[Point]

    def class_name(self, label: int) -> str:
        """The class's name, its number where it has none, "" where it is unknown."""
        if label < 0:
            return ""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def to_json(self) -> str:
        """The content of `FILE`."""
        return json.dumps(
            {field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            separators=(",", ":"),
        )


def read(path: str) -> Exhibits | None:
    """The exhibits of a run directory; None if it has none.

    Raises:
        UserError: if the file is damaged.
    """
    file = f"{path.rstrip('/')}/{FILE}"
    text = text_files.read(file)
    if not text:
        return None
    try:
        content: dict[str, Any] = json.loads(text)
        content["pictures"] = {i: Picture(*row) for i, row in content["pictures"].items()}
        content["clusters"] = [[Cluster(*row) for row in level] for level in content["clusters"]]
        content["removed"] = [Removed(*row) for row in content["removed"]]
        content["neighbours"] = [Neighbours(*row) for row in content["neighbours"]]
        content["map"] = [Point(*row) for row in content["map"]]
        return Exhibits(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Expected the pictures of a report in {file}. Received: {error}; remove the file, or "
            "train again."
        ) from error


def encode(pixels: np.ndarray) -> str:
    """A thumbnail as WebP in base64: half of JPEG's size for so few pixels.

    Args:
        pixels: uint8 [h, w, 3].
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=80, method=2)
    return base64.b64encode(file.getvalue()).decode()


def decode(pictures: Sequence[Picture]) -> list[np.ndarray]:
    """Thumbnails as uint8 [h, w, 3]."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.webp))).convert("RGB"))
        for picture in pictures
    ]
