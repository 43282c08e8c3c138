"""Hides the messages that TensorFlow prints while it starts."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from ifnd_tf.errors import Stopped, UserError


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hides what TensorFlow's C++ prints while it starts, unless the start fails.

    It writes to file descriptor 2, before any log level takes effect.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log, os.fdopen(os.dup(2), "wb") as stderr:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, (UserError, KeyboardInterrupt, Stopped)):
                log.seek(0)
                stderr.write(log.read())
            raise
        finally:
            os.dup2(stderr.fileno(), 2)
