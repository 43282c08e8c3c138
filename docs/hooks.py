"""Hooks of the documentation's build: the table of options, and pictures from experiments/."""

import pathlib
import sys

from mkdocs.structure.files import File, InclusionLevel

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ifnd_tf.config import help_text  # noqa: E402


def on_page_markdown(markdown: str, **_) -> str:
    """Puts the table of settings in place of {{ options }}."""
    return markdown.replace("{{ options }}", help_text.markdown())


def on_files(files, config):
    """Adds the pictures of committed results, so that ../experiments/... resolves in the site."""
    for path in (ROOT / "experiments" / "results").rglob("*.svg"):
        inside = path.relative_to(ROOT).as_posix()
        picture = File.generated(config, f"../{inside}", abs_src_path=str(path))
        picture.dest_uri, picture.inclusion = inside, InclusionLevel.INCLUDED
        files.append(picture)
    return files
