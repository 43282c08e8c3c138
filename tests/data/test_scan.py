"""Unreadable images: found, named, skipped, and the index space unchanged."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifnd_tf.data import datasets
from ifnd_tf.data.scan import scan
from ifnd_tf.data.source import Source
from ifnd_tf.distribute.strategies import Workers
from ifnd_tf.errors import UserError
from tests.data.conftest import picture


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """20 PNGs of one size; number 3 is cut off, 7 is text, 11 is empty."""
    for i in range(20):
        Image.fromarray(picture(i)).save(tmp_path / f"{i:02}.png")
    whole = (tmp_path / "03.png").read_bytes()
    (tmp_path / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "07.png").write_text("this is no image")
    (tmp_path / "11.png").write_bytes(b"")
    return tmp_path


def opened(path: Path, **options) -> Source:
    return datasets.open_splits(f"folder:{path}", holdout_share=0.01, **options).train


def test_unreadable_images_are_named_and_left_out(damaged):
    source = opened(damaged)
    assert source.num_examples == 20  # 1% held out of 20 is none.
    scan(source, max_corrupt_share=0.15)
    assert [bad.index for bad in source.unreadable] == [3, 7, 11]
    assert [Path(bad.name).name for bad in source.unreadable] == ["03.png", "07.png", "11.png"]
    assert all(bad.reason and "\n" not in bad.reason for bad in source.unreadable)
    assert source.num_examples == 20
    np.testing.assert_array_equal(source.readable, np.setdiff1d(np.arange(20), [3, 7, 11]))


def test_images_of_one_size_are_kept_decoded(damaged):
    source = opened(damaged)
    scan(source, max_corrupt_share=0.5)
    assert source.pixels.shape == (20, 20, 24, 3)
    for index in source.readable:
        np.testing.assert_array_equal(source.pixels[index], picture(index))


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["too large", "other sizes", "switched off"])
def test_only_all_images_of_one_size_make_an_array(damaged, reason):
    if reason == "other sizes":
        Image.fromarray(picture(19, 24, 20)).save(damaged / "19.png")
    if reason == "too large":
        for i in range(20):
            Image.fromarray(picture(i, 200, 200)).save(damaged / f"{i:02}.png")
    # 20 images of 200 x 200 x 3 are 2.3 MB.
    sizes = {"too large": 2, "other sizes": 100, "switched off": 0}
    source = opened(damaged)
    scan(source, max_corrupt_share=0.5, cache_megabytes=sizes[reason])
    assert source.pixels is None and source.scanned
    assert len(source.unreadable) == (0 if reason == "too large" else 3)


def test_too_many_unreadable_images_stop_the_run(damaged):
    message = r"at most --max_corrupt_share=0\.1 unreadable .* 3 of 20, such as .*03\.png"
    with pytest.raises(UserError, match=message):
        scan(opened(damaged), max_corrupt_share=0.1)


def test_a_share_that_is_just_met_is_tolerated(damaged):
    scan(opened(damaged), max_corrupt_share=3 / 20)


def test_nothing_readable_stops_the_run_whatever_the_share(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"expected readable images. Received: 3 of which none"):
        scan(opened(tmp_path), max_corrupt_share=1.0)


def test_progress_ends_at_the_readable_images(damaged):
    calls = []
    source = opened(damaged)
    scan(source, max_corrupt_share=1.0, progress=lambda *call: calls.append(call))
    assert calls[-1] == (17, 20)


@pytest.mark.slow
def test_workers_share_the_work_and_learn_all_of_it(damaged):
    meeting, said, found = threading.Barrier(2), {}, {}

    def work(index):
        def gather(own):
            said[index] = own
            meeting.wait(timeout=60)
            both = np.stack([said[0], said[1]])
            meeting.wait(timeout=60)
            return both

        calls = []
        source = opened(damaged)
        scan(
            source,
            max_corrupt_share=0.15,
            cache_megabytes=0,
            progress=lambda *call: calls.append(call),
            workers=Workers(index, 2, gather),
        )
        found[index] = [bad.index for bad in source.unreadable], list(source.labels), calls[-1]

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = opened(damaged)
    scan(alone, max_corrupt_share=0.15, cache_megabytes=0)
    # Of the even images all can be read, of the odd ones 3, 7 and 11 cannot.
    for index, read in enumerate((10, 7)):
        assert found[index] == ([3, 7, 11], list(alone.labels), (read, 10))
