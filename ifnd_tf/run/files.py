"""Files on disk or gs://. Imports TensorFlow, which takes seconds, for gs:// alone."""

import glob
import os


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
