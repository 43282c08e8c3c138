"""Runs that are stopped in their middle end with one line, and continue as if they had not."""

import contextlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.folder import open_folder
from ifnd_tf.data.scan import scan
from ifnd_tf.errors import UserError
from ifnd_tf.run.checkpoints import CheckpointStore
from tests import tiny
from tests.conftest import make_strategy

pytestmark = pytest.mark.faults

# 5 steps an epoch; what happens happens in the second.
WHEN = 7


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    """A disk of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = shutil.which("mount") and mount("-t", "tmpfs", "-o", "size=2m", "none", path)
    if not made or made.returncode:
        pytest.skip("only root may mount a small disk")
    yield path
    subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


def fill(disk):
    with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def trained(path, data=None, progress=None, **overrides):
    """Trains to the end, without detection; returns the weights."""
    overrides = {"detector": "none", **overrides}
    model, _ = tiny.train(tiny.config(**overrides), make_strategy("default"), path, data, progress)
    weights = [*model.encoder.get_weights(), *model.projector.get_weights()]
    return np.concatenate([value.ravel() for value in weights])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("unbroken") / "run")


BREAKS = {
    "full": (fill, lambda disk: (disk / "filler").unlink(), "No space left"),
    "read-only": (
        # Over the folder: a disk with open files cannot be made read-only.
        lambda disk: mount("-t", "tmpfs", "-o", "ro", "none", disk / "run" / "checkpoints"),
        lambda disk: subprocess.run(["umount", disk / "run" / "checkpoints"], check=True),
        "Read-only file system",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BREAKS)
def test_a_run_outlives_its_disk(how, disk, unbroken):
    hurt, mend, words = BREAKS[how]
    broken = tiny.AtStep(WHEN, lambda: hurt(disk))
    with pytest.raises(UserError, match=words):
        trained(disk / "run", progress=broken, checkpoint_steps=3)
    mend(disk)
    latest = CheckpointStore(str(disk / "run" / "checkpoints")).latest()
    assert WHEN - 3 <= latest < WHEN  # --checkpoint_steps=3
    np.testing.assert_array_equal(trained(disk / "run"), unbroken)


def test_a_disk_that_cannot_hold_a_checkpoint_says_so_before_the_first_step(tmp_path, monkeypatch):
    def full(old, new, overwrite=False):
        if "checkpoints" in new:
            raise tf.errors.ResourceExhaustedError(None, None, f"{new}; No space left on device")
        return rename(old, new, overwrite)

    rename = tf.io.gfile.rename
    monkeypatch.setattr(tf.io.gfile, "rename", full)
    never = tiny.AtStep(1, lambda: pytest.fail("it trained"))
    with pytest.raises(UserError, match="--workdir: expected room for .* No space left on device"):
        trained(tmp_path / "run", progress=never)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.fixture
def photos(tmp_path):
    """160 files, read anew whenever they are wanted."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(160):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03d}.png")

    def opened():
        source = open_folder("photos", str(root), ".")[0]
        scan(source, cache_megabytes=0, max_corrupt_share=1.0)
        return Splits(source, None)

    return root, opened


@pytest.mark.slow
def test_a_run_outlives_its_data(photos, tmp_path):
    root, opened = photos
    whole = trained(tmp_path / "whole", opened())
    moved = tiny.AtStep(2, lambda: root.rename(tmp_path / "gone"))
    # The folder may vanish at an epoch's last batches or within one; each has its message.
    with pytest.raises(UserError, match="bring .* back.* give the same command again"):
        trained(tmp_path / "run", opened(), moved)
    (tmp_path / "gone").rename(root)
    np.testing.assert_array_equal(trained(tmp_path / "run", opened()), whole)


@pytest.mark.slow
def test_an_image_lost_in_the_middle_is_listed_and_the_run_ends(photos, tmp_path):
    root, opened = photos
    lost = tiny.AtStep(2, lambda: (root / "007.png").write_bytes(b"gone"))
    trained(tmp_path / "run", opened(), lost)
    rows = (tmp_path / "run" / "unreadable.tsv").read_text().splitlines()
    assert len(rows) == 2 and "007.png\tcould not be read while training" in rows[1]


@pytest.mark.slow
def test_too_many_lost_images_stop_the_run_and_their_return_lets_it_go_on(photos, tmp_path):
    root, opened = photos
    whole = trained(tmp_path / "whole", opened())
    lost = [root / f"{number:03d}.png" for number in range(0, 160, 8)]
    contents = [path.read_bytes() for path in lost]

    def lose():
        for path in lost:
            path.unlink()

    with pytest.raises(UserError, match="at most --max_corrupt_share=0.05 unreadable images"):
        trained(tmp_path / "run", opened(), tiny.AtStep(2, lose), max_corrupt_share=0.05)
    for path, bytes_ in zip(lost, contents, strict=True):
        path.write_bytes(bytes_)
    np.testing.assert_array_equal(trained(tmp_path / "run", opened()), whole)
