"""Hooks of the documentation's build: the table of options, and pictures from experiments/."""

import pathlib
import sys

from mkdocs.structure.files import File, InclusionLevel

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ifnd_tf.config import help_text  # noqa: E402


def options() -> str:
    """Every setting explained, as tables: what --help prints, for the page options.md."""
    lines: list[str] = []
    for title, explained in help_text.groups():
        lines += [
            f"## {title}",
            "",
            "| flag | value | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for each in explained:
            cells = (f"`--{each.name}`", each.kind, f"`{each.default}`" if each.default else "")
            help = each.help.replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| {' | '.join(cell.replace('<', '&lt;') for cell in cells)} | {help} |")
        lines.append("")
    return "\n".join(lines)


def on_page_markdown(markdown: str, **_) -> str:
    """Puts the table of settings in place of {{ options }}."""
    return markdown.replace("{{ options }}", options())


def on_files(files, config):
    """Adds the pictures of committed results, so that ../experiments/... resolves in the site."""
    for path in (ROOT / "experiments" / "results").rglob("*.svg"):
        inside = path.relative_to(ROOT).as_posix()
        picture = File.generated(config, f"../{inside}", abs_src_path=str(path))
        picture.dest_uri, picture.inclusion = inside, InclusionLevel.INCLUDED
        files.append(picture)
    return files
