"""The report's HTML, from Jinja templates that escape every value.

File and class names may hold markup, so nothing here joins text into HTML by hand.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2


class Tile(NamedTuple):
    """A large number: value, name, and the baselines beside it."""

    value: str
    text: str
    beside: str = ""


class Table(NamedTuple):
    """A table of plain text; not shown without rows.

    Attributes:
        rows: cells.
        header: column titles, if any.
        caption: title, if any.
        numbers: columns aligned right.
        code: columns in a fixed-width face.
        folded: whether it is folded away under its caption.
    """

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""
    numbers: Sequence[int] = ()
    code: Sequence[int] = ()
    folded: bool = False


class Chart(NamedTuple):
    """A chart, as an `<svg>` element that is safe to include, and its numbers.

    Not shown where `svg` is empty.
    """

    svg: str
    numbers: Table


class Image(NamedTuple):
    """An image: WebP in base64, its description, and "right", "wrong" or "" for its mark."""

    webp: str
    alt: str
    mark: str = ""


class Group(NamedTuple):
    """Images that belong together."""

    title: str
    images: list[Image]


class Row(NamedTuple):
    """One entry of a gallery; groups without images are not shown."""

    title: str
    detail: str
    groups: list[Group]


class Gallery(NamedTuple):
    """Rows that fold away together; not shown without rows."""

    title: str
    rows: list[Row]


class Map(NamedTuple):
    """One colouring of the embedding's map."""

    title: str
    svg: str


class Section(NamedTuple):
    """A part of the page, of whatever kinds of content it has; `short` names it in the menu."""

    short: str
    title: str
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    galleries: Sequence[Gallery] = ()
    maps: Sequence[Map] = ()
    map_data: Any = None

    @property
    def id(self) -> str:
        """Its place in the page's address."""
        return self.short.lower()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show but notes."""
        charts = any(chart.svg for chart in self.charts)
        tables = any(table.rows for table in self.tables)
        galleries = any(gallery.rows for gallery in self.galleries)
        return not (charts or tables or galleries or self.maps)


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
        title: plain text, as all texts here.
        lead: the run and its results in a few sentences.
        sections: in their order.
        warnings: shown at the top.
        tiles: the main numbers.
    """
    return (
        _templates()
        .get_template("report.html")
        .render(title=title, lead=lead, sections=sections, warnings=warnings, tiles=tiles)
    )
