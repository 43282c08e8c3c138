"""The memory that a call takes, measured in a process of its own. Linux only."""

import importlib
import multiprocessing
import pathlib
import re
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def _run(module: str, function: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(importlib.import_module(module), function)(*arguments)


def apart(module: str, function: str, *arguments: Any) -> Any:
    """The result of a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, module, function, arguments).result()


def _status(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def growth(module: str, maker: str, small: tuple[Any, ...], large: tuple[Any, ...]) -> float:
    """MB that a first call adds at its peak to what the process held.

    Args:
        module, maker: name a function that prepares, and returns the call.
        small: the maker's arguments for a first call, after which libraries are loaded and the
            compiler's memory is taken.
        large: the arguments for the call that is measured.
    """
    make = getattr(importlib.import_module(module), maker)
    make(*small)()
    run = make(*large)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _status("VmRSS")
    run()  # The first of its size: later ones are served from what this one took and keeps.
    return _status("VmHWM") - before


def peak_growth(module: str, maker: str, small: tuple[Any, ...], large: tuple[Any, ...]) -> float:
    """`growth` in a fresh process, which holds no memory of earlier calls."""
    return apart("benchmarks.memory", "growth", module, maker, small, large)
