"""Images unlike all others: the distance to the nearest neighbours in the embedding."""

import numpy as np

from ifnd_tf.run.progress import Count, uncounted

# Neighbours of an image: more than the copies that a photographer keeps of a scene.
_NEIGHBOURS = 5
# Images among which neighbours are searched, so that the work grows with N and not its square.
AMONG = 20_000
# Rows at a time.
ROWS = 1024


def oddness(embedding: np.ndarray, seed: int = 0, progress: Count = uncounted) -> np.ndarray:
    """1 less the mean cosine to the five nearest of the others, or of a sample of 20,000.

    Args:
        embedding: float32 `[N, D]`, unit vectors.
        seed: of the sample.
        progress: called with the number of images that are done and N, now and then.

    Returns:
        float32 `[N]`, in [0, 2]; 0 for all of fewer than two images.
    """
    count = len(embedding)
    among = np.random.default_rng(seed).permutation(count)[:AMONG]
    nearest = min(_NEIGHBOURS, len(among) - 1)
    found = np.zeros(count, np.float32)
    if nearest < 1:
        return found
    others = embedding[among].T
    for start in range(0, count, ROWS):
        rows = np.arange(start, min(start + ROWS, count))
        cosine = embedding[rows] @ others
        cosine[rows[:, None] == among[None, :]] = -2.0  # itself
        found[rows] = 1.0 - np.partition(cosine, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        progress(int(rows[-1]) + 1, count)
    return found
