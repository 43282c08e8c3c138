"""Python's garbage collector beside TensorFlow."""

import contextlib
import gc
from collections.abc import Iterator

# Python's own is 700, or 2,000 since 3.13.
_ALLOCATIONS = 50_000


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Suspends garbage collection, excludes the objects made within it, and makes it rare after it.

    The imports of TensorFlow and Keras make a million objects that stay until the end, and so does
    the tracing of each step. The collector would search them again and again: an eighth of the time
    to the first step.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
        if was_enabled:
            gc.enable()
