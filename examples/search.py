"""Image search: the nearest images to one of them, by a flat index over the embeddings.

    python -m examples.search runs/photos photos/cat.jpg

A flat index compares with every image: exact, and a matrix product even for a million of them.
"""

import sys

import numpy as np
import tensorflow as tf


def main(workdir: str, query: str | bytes, count: int = 5) -> list[tuple[str, float]]:
    """The `count` most similar images of the run: path and cosine, best first.

    Args:
        workdir: a run directory, after `--mode=export,embed`.
        query: the path of an image file, or its bytes.
        count: how many.
    """
    with np.load(f"{workdir}/embeddings/embeddings.npz") as table:
        embedding, paths = table["embedding"], table["path"]
    encoder = tf.saved_model.load(f"{workdir}/saved_model")
    content = query if isinstance(query, bytes) else tf.io.read_file(query).numpy()
    found = encoder.signatures["encoded"](encoded=tf.constant([content]))["embedding"]
    cosine = embedding @ found.numpy()[0]  # unit vectors
    best = np.argsort(-cosine)[:count]
    return [(str(paths[i]), float(cosine[i])) for i in best]


if __name__ == "__main__":
    for path, similarity in main(sys.argv[1], sys.argv[2]):
        print(f"{similarity:.3f}  {path}")
