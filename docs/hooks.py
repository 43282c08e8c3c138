"""Fills the page of options from `ifnd_tf.config`, so that it cannot drift."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from ifnd_tf.config import help_text


def on_page_markdown(markdown: str, **_) -> str:
    """Puts the table of settings where a page says {{ options }}."""
    return markdown.replace("{{ options }}", help_text.markdown())
