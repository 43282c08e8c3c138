"""Versions of Python and packages, and the machine."""

import importlib.metadata
import os
import platform

from ifnd_tf import __version__

_PACKAGES = ("tensorflow", "tensorflow-tpu", "keras", "numpy", "scikit-learn")


def text() -> str:
    """Versions and machine in one line."""
    found = [f"ifnd_tf {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    found.append(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs")
    return ", ".join(found)
