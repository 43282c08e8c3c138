"""Small text files, on disk without TensorFlow, which takes seconds to import, or gs:// with it."""

import glob
import os


def read(path: str) -> str:
    """What a file holds, bytes that are not UTF-8 replaced; empty if there is none."""
    if "://" in path:
        import tensorflow as tf

        if not tf.io.gfile.exists(path):
            return ""
        return tf.io.gfile.GFile(path, "rb").read().decode("utf-8", "replace")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def matching(pattern: str) -> list[str]:
    """Paths that match a pattern such as `run/detection/*.json`, sorted."""
    if "://" in pattern:
        import tensorflow as tf

        return sorted(tf.io.gfile.glob(pattern))
    folder, _, name = pattern.rpartition("/")
    return sorted(glob.glob(os.path.join(glob.escape(folder), name)))
