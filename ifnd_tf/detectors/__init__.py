"""Who decides which examples show the same thing. A detector is one class in one file here.

Whatever file lies in this folder is read, and `--detector` takes the `flag` of its class.
"""

import importlib
import pkgutil

from ifnd_tf.detectors.base import Detection, Detector, Parts
from ifnd_tf.errors import UserError, did_you_mean

__all__ = ["Detection", "Detector", "Parts", "named", "names"]


def names() -> dict[str, type[Detector]]:
    """Every detector there is, by its flag."""
    found: dict[str, type[Detector]] = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Detector) and kind.flag:
                found[kind.flag] = kind
    return found


def named(flag: str) -> type[Detector]:
    """The detector of `--detector`.

    Raises:
        UserError: if there is none of that name.
    """
    known = names()
    if flag not in known:
        raise UserError(
            f"--detector: expected one of {', '.join(sorted(known))}. Received: {flag!r}."
            f"{did_you_mean(flag, known)}"
        )
    return known[flag]
