"""Pairs of augmented views as one picture."""

import numpy as np

from ifnd_tf.data import photometric


def view_pairs(pairs: np.ndarray, columns: int = 4) -> np.ndarray:
    """Pairs of views side by side, with white between them.

    Args:
        pairs: float `[n, 2, S, S, 3]`, normalised.
        columns: pairs in a row.

    Returns:
        uint8 `[H, W, 3]`; small views are enlarged, by whole factors, to be seen.
    """
    pixels = np.clip((pairs * photometric.STD + photometric.MEAN) * 255 + 0.5, 0, 255).astype(
        np.uint8
    )
    enlarge = max(1, 96 // pixels.shape[2])
    pixels = pixels.repeat(enlarge, axis=2).repeat(enlarge, axis=3)
    tiles = [np.concatenate([np.pad(v, _frame(1)) for v in pair], axis=1) for pair in pixels]
    tiles = [np.pad(tile, _frame(3), constant_values=255) for tile in tiles]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _frame(width: int) -> list[tuple[int, int]]:
    return [(width, width), (width, width), (0, 0)]
