"""Python's garbage collector beside TensorFlow."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Suspends garbage collection, and excludes the objects made within it from later ones.

    The imports of TensorFlow and Keras make a million objects that stay until the end. The
    collector would search them again and again: a quarter of the time of the imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
