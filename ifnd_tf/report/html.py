"""The report's HTML, from Jinja templates that escape every value.

File and class names may hold markup, so nothing here joins text into HTML by hand.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from ifnd_tf.run.words import counted


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

    def aligned(self) -> list[str]:
        """Header and rows for a terminal, numbers aligned right."""
        rows = [row for row in (self.header, *self.rows) if row]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.rjust(width) if column in self.numbers else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]


class Chart(NamedTuple):
    """A chart, as an `<svg>` element that is safe to include, and its numbers.

    Not shown where `svg` is empty.
    """

    svg: str
    numbers: Table


class Section(NamedTuple):
    """A part of a page; the page's template adds the texts, and draws the pictures.

    Attributes:
        short: its name in the menu.
        title: its heading.
        charts, tables: those with nothing to show are left out.
        pictures: whatever the template draws.
    """

    short: str
    title: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Any] = ()

    @property
    def id(self) -> str:
        """Its place in the page's address."""
        return self.short.lower()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        charts = any(chart.svg for chart in self.charts)
        return not (charts or any(table.rows for table in self.tables) or self.pictures)


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ifnd_tf.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    environment.globals["counted"] = counted
    return environment


def _sentence(text: str) -> str:
    """The text with a capital letter first, except for names such as kNN."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def render(template: str, **values: Any) -> str:
    """A page, with its style and script inside and no reference to any other file.

    Args:
        template: one that extends page.html.
        **values: what the template shows, `title` and `sections` among them.
    """
    return _templates().get_template(template).render(values)
