"""Large tensors of the host are held once."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf.data import datasets, host_memory
from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.data.packed_paths import PackedPaths
from ifnd_tf.data.scan import scan
from ifnd_tf.data.sharding import in_order
from ifnd_tf.data.statistics import image_statistics

PATHS = [f"{i}/" + "é" * (i % 40) + "caf\udce9.png" for i in range(100)]


def peak(function) -> int:
    """The most bytes that Python and NumPy take while a function runs."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_tensor_shares_the_memory_of_its_array():
    array = host_memory.shareable_zeros([3, 5, 7])
    tensor = host_memory.shared(array)
    array[1, 2, 3] = 9  # seen by the tensor, were it not forbidden
    assert tensor.shape == (3, 5, 7) and tensor.dtype == tf.uint8
    assert tensor[1, 2, 3].numpy() == 9 and tf.reduce_sum(tf.cast(tensor, tf.int32)).numpy() == 9


def test_decoded_images_are_kept_once(tmp_path):
    for i in range(40):
        Image.fromarray(np.full([256, 256, 3], i, np.uint8)).save(tmp_path / f"{i:02}.png")
    source = datasets.open_splits(f"folder:{tmp_path}").train
    cached = 40 * 256 * 256 * 3
    assert peak(lambda: scan(source)) < 2.5 * cached  # the cache, and a batch of all images
    assert source.pixels.shape == (40, 256, 256, 3)
    np.testing.assert_array_equal(source.pixels[:, 0, 0, 0], range(40))


def test_iterators_do_not_rewrite_the_graph_and_with_it_what_it_holds():
    options = in_order(tf.data.Dataset.range(3)).options()
    assert options.experimental_optimization.apply_default_optimizations is False
    assert options.deterministic is True
    source = ArraySource("gray", np.zeros([3, 4, 4, 3], np.uint8), np.full(3, -1))
    options = source.fetch_all(np.arange(3)).options()
    assert options.experimental_optimization.apply_default_optimizations is False


def test_statistics_of_photos_take_the_memory_of_a_few(tmp_path):
    images = np.zeros([8, 1000, 1000, 3], np.uint8)
    images[:4] = 200
    source = ArraySource("photos", images, np.full(8, -1))
    _ = source.pixels
    assert peak(lambda: image_statistics(source)) < 4 * images[0].nbytes
    assert image_statistics(source).copies == 6


def test_packed_paths_are_the_paths():
    paths = PackedPaths(iter(PATHS))
    assert len(paths) == 100 and [paths[i] for i in range(100)] == PATHS
    assert [paths.take(np.array([0, 17, 99]))[i] for i in range(3)] == [
        PATHS[0],
        PATHS[17],
        PATHS[99],
    ]
    look_up = tf.function(paths.look_up)
    for i, path in enumerate(PATHS):
        assert look_up(tf.constant(i)).numpy() == path.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17])
def test_any_number_of_paths_can_be_packed(count):
    paths = PackedPaths(PATHS[:count])
    assert [paths[i] for i in range(len(paths))] == PATHS[:count]


def test_many_paths_take_little_more_than_their_text():
    # Made as they are read, as a walk does it.
    text = sum(len(f"class{i % 100}/{i:08}.jpg") for i in range(20_000))
    packed = peak(lambda: PackedPaths(f"class{i % 100}/{i:08}.jpg" for i in range(20_000)))
    assert packed < 2 * text
