"""The report's HTML: Jinja templates that escape whatever they are given.

File and class names are anybody's, so nothing here joins text into HTML by hand.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2


class Tile(NamedTuple):
    """A large number: value, what it is, and what to compare it with."""

    value: str
    text: str
    beside: str = ""


class Table(NamedTuple):
    """A table of plain text.

    Attributes:
        rows: cells.
        header: column titles, if any.
        caption: title, if any.
        numbers: columns aligned right.
        code: columns in a fixed-width face.
    """

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""
    numbers: Sequence[int] = ()
    code: Sequence[int] = ()


class Chart(NamedTuple):
    """A chart, as an `<svg>` element that is safe to include, and the numbers in it."""

    svg: str
    numbers: Table


class Shown(NamedTuple):
    """A picture: WebP in base64, its description, and "right", "wrong" or "" for its mark."""

    webp: str
    alt: str
    mark: str = ""


class Group(NamedTuple):
    """Pictures that belong together."""

    title: str
    pictures: list[Shown]


class Row(NamedTuple):
    """One entry of a gallery."""

    title: str
    detail: str
    groups: list[Group]


class Gallery(NamedTuple):
    """Rows that fold away together."""

    title: str
    rows: list[Row]


class Map(NamedTuple):
    """One colouring of the embedding's map."""

    title: str
    svg: str


class Fold(NamedTuple):
    """A table that is folded away."""

    title: str
    table: Table


class Section(NamedTuple):
    """A part of the page, of whatever kinds of content it has; `short` names it in the menu."""

    id: str
    short: str
    title: str
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    galleries: Sequence[Gallery] = ()
    maps: Sequence[Map] = ()
    map_data: Any = None
    folds: Sequence[Fold] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show but notes."""
        return not (self.charts or self.tables or self.galleries or self.maps or self.folds)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ifnd_tf.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    title: str,
    *,
    lead: Sequence[str],
    sections: Sequence[Section],
    warnings: Sequence[str] = (),
    tiles: Sequence[Tile] = (),
) -> str:
    """The whole page, with its style and script inside and no reference to any other file.

    Args:
        title: plain text, as all others are.
        lead: sentences that say what came out.
        sections: in their order.
        warnings: what must not be overlooked.
        tiles: the main numbers.
    """
    return (
        _templates()
        .get_template("report.html")
        .render(title=title, lead=lead, sections=sections, warnings=warnings, tiles=tiles)
    )
