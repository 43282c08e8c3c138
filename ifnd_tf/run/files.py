"""Files on disk or gs://. Imports TensorFlow, which takes seconds, for gs:// alone."""

import glob
import os

from ifnd_tf.errors import UserError


def content(path: str) -> bytes:
    """A file's bytes; b"" if there is no file."""
    if "://" in path:
        import tensorflow as tf

        return tf.io.gfile.GFile(path, "rb").read() if tf.io.gfile.exists(path) else b""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def names(folder: str, pattern: str) -> list[str]:
    """The names of a folder's files that match a pattern, sorted."""
    if "://" in folder:
        import tensorflow as tf

        paths = tf.io.gfile.glob(f"{folder}/{pattern}")
    else:
        paths = glob.glob(os.path.join(glob.escape(folder), pattern))
    return sorted(path.rpartition("/")[2] for path in paths)


def is_saved_model(folder: str) -> bool:
    """Whether a folder on this machine's disk holds a SavedModel."""
    return any(
        os.path.isfile(os.path.join(folder, f"saved_model.{end}")) for end in ("pb", "pbtxt")
    )


def require_writable(path: str) -> None:
    """Raises `UserError` if a run directory on this machine's disk could not be made or written."""
    there = os.path.abspath(path)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise not_writable(path, f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise not_writable(path, f"no permission to write to {there}, or a read-only disk")


def not_writable(path: str, reason: Exception | str) -> UserError:
    """The error of a run directory that cannot be written."""
    return UserError(
        f"--workdir: expected a directory that can be written. Received: {path!r} ({reason}); "
        "choose another."
    )
