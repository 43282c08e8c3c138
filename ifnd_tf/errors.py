"""Errors that end a run and are no bugs: wrong input, divergence, and a signal to stop."""

import difflib
import os
import re
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend; entry points print it as one line, without a traceback.

    The message says what was expected, what was received and what to do, on one line.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class NonFinite(UserError):
    """A number became NaN or infinite: training has diverged. Its last checkpoint is still good."""


class Stopped(BaseException):
    """A signal ended the run; the same command continues from its last checkpoint.

    A `BaseException`, as KeyboardInterrupt is: TensorFlow's tracing, and callers that catch every
    `Exception` of a library, would turn it into another error.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = int(number)


def cause(error: Exception) -> str:
    """The message of a TensorFlow error in one line, without the graph's stack."""
    text = str(error).split("[[{{")[0].split("[Op:")[0].strip()
    return " ".join(re.sub(r"{{.*?}}", "", text.split("\n\n")[-1]).split())[:200]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question "Did you mean X?" for the known word nearest to a mistyped one, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def did_you_mean_path(path: str) -> str:
    """The question "Did you mean X?" for a path on disk: its first missing part corrected.

    If no name is near: for a relative path the folder in which it was looked for, else nothing.
    """
    if "://" in path:
        return ""
    there, missing = os.path.abspath(path), ""
    while not os.path.exists(there):
        there, missing = os.path.split(there)
    try:
        near = difflib.get_close_matches(missing, os.listdir(there))
    except OSError:  # no folder, or one that may not be listed
        near = []
    if near:
        found = os.path.join(there, near[0])
        rest = os.path.relpath(os.path.abspath(path), os.path.join(there, missing))
        if rest != "." and os.path.exists(os.path.join(found, rest)):
            found = os.path.join(found, rest)
        return f" Did you mean {found if os.path.isabs(path) else os.path.relpath(found)}?"
    return "" if os.path.isabs(path) else f" It was looked for in {os.getcwd()}."
