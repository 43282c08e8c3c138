"""Pieces of an HTML page that needs no other file."""

import html
from collections.abc import Iterable, Sequence

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f5f6f8; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 8px 0 0; } h2 { font-size: 18px; margin: 34px 0 10px; }
p.lead { color: #555; margin: 4px 0 18px; } p.note { color: #555; max-width: 46em; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: #fff; border: 1px solid #e2e4e8; border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 24px; font-weight: 600; }
.tile b { overflow-wrap: anywhere; }
.tile span { color: #555; font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 14px; }
.charts > div { background: #fff; border: 1px solid #e2e4e8; border-radius: 8px; padding: 10px; }
svg { display: block; width: 100%; height: auto; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 14px; align-items: start; }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid #e2e4e8; }
caption { text-align: left; font-weight: 600; padding: 6px 0; }
td, th { padding: 5px 10px; border-top: 1px solid #eceef1; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { background: #fafbfc; font-weight: 600; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, td.code { font: 13px ui-monospace, monospace; }
.warning { background: #fff4e0; border: 1px solid #f0c36d; border-radius: 8px;
  padding: 8px 14px; margin: 10px 0; }
summary { cursor: pointer; font-weight: 600; }
@media print { body { background: #fff; } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: plain text.
        parts: HTML fragments, in order.

    Returns:
        HTML text with its style inside and no reference to any other file.
    """
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A heading with what belongs to it; "" if there is nothing."""
    body = "\n".join(part for part in parts if part)
    if not body:
        return ""
    text = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h2>{html.escape(title)}</h2>\n{text}\n{body}"


def charts(svgs: Iterable[str]) -> str:
    """Charts side by side, as many as fit."""
    cells = [f"<div>{svg}</div>" for svg in svgs if svg]
    return f'<div class="charts">{"".join(cells)}</div>' if cells else ""


def tiles(items: Sequence[tuple[str, str]]) -> str:
    """Large numbers: (value, what it is)."""
    cells = [
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>'
        for value, text in items
    ]
    return f'<div class="tiles">{"".join(cells)}</div>' if cells else ""


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    caption: str = "",
    numbers: Sequence[int] = (),
    code: Sequence[int] = (),
) -> str:
    """A table of plain text; "" without rows.

    Args:
        rows: cells as plain text.
        header: column titles, if any.
        caption: title, if any.
        numbers: columns aligned right.
        code: columns in a fixed-width face.
    """
    if not rows:
        return ""
    kinds = {column: "number" for column in numbers} | {column: "code" for column in code}
    lines = [f"<caption>{html.escape(caption)}</caption>" if caption else ""]
    if header:
        lines.append("<tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in header) + "</tr>")
    for row in rows:
        cells = [
            f'<td class="{kinds.get(column, "")}">{html.escape(text)}</td>'
            for column, text in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def warning(text: str) -> str:
    """A sentence that must not be overlooked."""
    return f'<div class="warning">{html.escape(text)}</div>'


def details(summary: str, body: str) -> str:
    """Something folded away."""
    if not body:
        return ""
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"
