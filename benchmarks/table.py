"""The committed results as the table of docs/performance.md.

    python -m benchmarks.table

A file's tables stand between two comments, `<!-- benchmarks: NAMES -->` and `<!-- end -->`;
NAMES are those of the results to show. Everything between them is written anew.
"""

import json
import pathlib
import re
from typing import Any

from benchmarks.peer import ROOT
from benchmarks.rows import Row, shown

RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "docs" / "performance.md",)
_PLACE = re.compile(r"(<!-- benchmarks: ([\w ]+) -->\n).*?(<!-- end -->)", re.S)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown of some results, and under it on which machine and day each was measured."""
    lines = [
        "| benchmark | case | metric | ours | peer | ratio | spread |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    places: dict[str, list[str]] = {}
    for result in results:
        places.setdefault(f"{result['machine']}, {result['date']}", []).append(result["benchmark"])
        for fields in result["rows"]:
            row = Row(**fields)
            peer = f"{shown(row.peer)} {row.peer_name}".strip()
            ratio = f"**{row.ratio:.3g}x**" if row.ratio is not None else ""
            lines.append(
                f"| {result['benchmark']} | {row.case} | {row.metric} | {shown(row.ours)} "
                f"| {peer if row.peer_name else ''} | {ratio} | {row.spread:.0%} |"
            )
    lines += ["", *(f"Measured on {place}: {', '.join(who)}." for place, who in places.items())]
    return "\n".join(lines) + "\n"


def filled(page: str, results: pathlib.Path = RESULTS) -> str:
    """The page with its tables written anew.

    Args:
        page: its Markdown.
        results: folder with NAME.json of each benchmark that it names.
    """

    def fill(place: re.Match[str]) -> str:
        found = [
            json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
            for name in place[2].split()
        ]
        return place[1] + table(found) + place[3]

    return _PLACE.sub(fill, page)


def main() -> None:
    """Rewrites the pages."""
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: tables of {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
