"""Small data sets that the tests of the data package share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifnd_tf.data.array_source import ArraySource


def picture(index: int, height: int = 20, width: int = 24) -> np.ndarray:
    """A smooth coloured picture, uint8 [height, width, 3], different for every index."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin((rows * (c + 1) + columns * (3 - c)) / 9 + index * (c + 0.7)) for c in range(3)]
    return np.uint8(127.5 + 100 * np.stack(waves, axis=-1))


@pytest.fixture
def memory_source() -> ArraySource:
    """40 pictures of 12 x 12 pixels in memory, 4 classes."""
    images = np.stack([picture(i, 12, 12) for i in range(40)])
    return ArraySource("memory", images, np.arange(40) % 4, ["a", "b", "c", "d"])


def write_class_folders(path: Path) -> Path:
    """Writes 30 JPEGs of different sizes in 3 class folders, one of them nested."""
    for i in range(30):
        folder = path / ("cat/wild", "dog", "fish")[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(picture(i, 20 + i, 50 - i))
        image.save(folder / f"{i:03}.jpg", quality=95)
    return path


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """A test's own class folders, whose files it may damage."""
    return write_class_folders(tmp_path / "pictures")
