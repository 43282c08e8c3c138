"""Images that stay decoded: the same views, whether all, some or none are in memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifnd_tf.data import datasets, eval_batches, recipes, train_batches
from ifnd_tf.data.kept_images import KeptImages
from ifnd_tf.data.scan import scan
from ifnd_tf.data.source import Source
from ifnd_tf.run import machine
from tests.data.conftest import picture

SIZE = 8
ROTATED = Image.Exif()
ROTATED[274] = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """14 images of 12 to 180 pixels: JPEG, upright and rotated, and PNG; number 5 is text."""
    path = tmp_path_factory.mktemp("photos")
    for i in range(14):
        image = Image.fromarray(picture(i, 12 + 13 * i, 20 + 11 * i))
        if i % 3:
            image.save(path / f"{i:02}.jpg", quality=92, **({"exif": ROTATED} if i % 2 else {}))
        else:
            image.save(path / f"{i:02}.png")
    (path / "05.jpg").write_text("this is no image")
    return path


def scanned(folder: Path, *, view_size: int = SIZE, cache_megabytes: int = 2048) -> Source:
    source = datasets.open_splits(f"folder:{folder}", holdout_share=0.01).train
    scan(source, max_corrupt_share=1.0, view_size=view_size, cache_megabytes=cache_megabytes)
    return source


def training_views(source: Source) -> np.ndarray:
    batches = train_batches.training_batches(
        source, augmentation=recipes.recipe("moco_v2"), image_size=SIZE, batch_size=4, seed=3
    )
    return np.concatenate([batch["images"] for batch in batches.take(6).as_numpy_iterator()])


def plain_views(source: Source, size: int = SIZE) -> np.ndarray:
    batches = eval_batches.ordered_batches(source, image_size=size, batch_size=4)
    return np.concatenate([batch["images"] for batch in batches.as_numpy_iterator()])


@pytest.mark.slow
@pytest.mark.parametrize("free", [1 << 30, 12_000], ids=["all", "some"])
def test_views_are_those_of_the_files(folder, monkeypatch, free):
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    files, memory = scanned(folder, cache_megabytes=0), scanned(folder)
    assert files.kept is None and not files.in_memory(SIZE)
    assert memory.in_memory(SIZE) is (free == 1 << 30)
    held = sum(bool(memory.kept.holds(i)) for i in range(14))
    assert held == 13 if free == 1 << 30 else 0 < held < 13
    assert [each.index for each in memory.unreadable] == [5]
    np.testing.assert_array_equal(training_views(memory), training_views(files))
    np.testing.assert_array_equal(plain_views(memory), plain_views(files))


@pytest.mark.slow
def test_images_in_memory_are_not_read_again(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    source = scanned(tmp_path)
    views = training_views(source), plain_views(source)
    for file in tmp_path.iterdir():
        file.unlink()
    np.testing.assert_array_equal(training_views(source), views[0])
    np.testing.assert_array_equal(plain_views(source), views[1])


@pytest.mark.slow
def test_reduced_images_do_not_serve_larger_views(folder):
    """An encoder of another size embeds what it would have seen without them."""
    memory, files = scanned(folder), scanned(folder, cache_megabytes=0)
    assert memory.kept_for(SIZE) is memory.kept and memory.kept_for(64) is None
    np.testing.assert_array_equal(plain_views(memory, 64), plain_views(files, 64))


def test_images_in_full_serve_all_larger_views(folder):
    memory = scanned(folder, view_size=96)
    assert memory.kept_for(96) and memory.kept_for(200) and memory.kept_for(0)
    assert memory.kept_for(64) is None  # for these, the largest would be reduced


@pytest.mark.slow
def test_a_part_of_the_images_needs_no_files(folder):
    wanted = np.array([1, 4, 9, 13])
    part = scanned(folder).subset(wanted)
    assert part.in_memory(SIZE)
    np.testing.assert_array_equal(
        plain_views(part), plain_views(scanned(folder, cache_megabytes=0).subset(wanted))
    )


def test_pixels_are_what_was_added_and_black_in_between():
    images = {1: picture(1, 4, 5), 2: picture(2, 4, 5), 4: picture(4, 4, 5)}
    kept = KeptImages(6, 0, 0.0, 6 * 60)
    for index, image in images.items():
        assert kept.add([index], np.array([[4, 5]]), image.ravel())
    kept.freeze()
    expected = np.zeros([6, 4, 5, 3], np.uint8)
    for index, image in images.items():
        expected[index] = image
        np.testing.assert_array_equal(kept.image(index), image)
    np.testing.assert_array_equal(kept.as_array(), expected)
    assert [bool(kept.holds(i)) for i in range(6)] == [False, True, True, False, True, False]
    assert kept.holds_all(np.array([1, 2, 4])) and not kept.holds_all(np.array([1, 3]))


def test_images_of_several_sizes_lie_close_together():
    shapes = np.array([[4, 5], [2, 2], [4, 5]])
    images = [picture(i, *shape) for i, shape in enumerate(shapes)]
    pixels = np.concatenate([image.ravel() for image in images])
    kept = KeptImages(3, 0, 0.0, len(pixels))
    assert kept.add(range(3), shapes, pixels)
    kept.freeze()
    assert kept.as_array() is None
    for index, image in enumerate(images):
        np.testing.assert_array_equal(kept.image(index), image)


@pytest.mark.slow
def test_half_of_the_free_memory_stays_free(folder, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 60_000)
    source = scanned(folder)
    held = [i for i in range(14) if bool(source.kept.holds(i))]
    assert 0 < len(held) < 13 and source.kept.megabytes == 1
    monkeypatch.setattr(machine, "free_memory", lambda: 100)
    assert scanned(folder).kept is None  # not worth it


def test_what_does_not_fit_is_not_kept():
    kept = KeptImages(3, 0, 0.0, 130)
    assert not kept.add(range(3), np.full([3, 2], [4, 5]), np.arange(180, dtype=np.uint8))
    assert [bool(kept.holds_all(np.array([i]))) for i in range(3)] == [True, True, False]
    kept.freeze()
    assert kept.as_array() is None
    np.testing.assert_array_equal(kept.image(1), np.arange(60, 120).reshape(4, 5, 3))
