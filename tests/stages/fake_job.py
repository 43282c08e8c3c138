"""A job of a comparison that does what its tasks say: no training, and no TensorFlow to import."""

import functools
import os
import pathlib
import signal
import sys
import time


def work(connection):
    """Like `compare_workers._work`; a task is (title, what to do)."""
    while True:
        try:
            title, what = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(("line", f"{title} in {os.getpid()}"))
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "raise":
            sys.exit(3)
        elif what.startswith("wait:"):
            save = functools.partial(_save, what.removeprefix("wait:"))
            signal.signal(signal.SIGTERM, save)
            connection.send(("line", "waiting"))
            time.sleep(60)
        connection.send(("outcome", what, what == "fail"))


def _save(path, *_):
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    pathlib.Path(path).write_text(f"saved, Ctrl-C ignored: {ignored}")
    sys.exit(143)
