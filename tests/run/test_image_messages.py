"""The terminal stays quiet about damaged images, and about nothing else."""

import io
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from ifnd_tf.data.image_formats import pillow

ROOT = pathlib.Path(__file__).parents[2]


def python(*arguments) -> subprocess.CompletedProcess:
    """As a user runs it, without the tests' own log level."""
    variables = {n: v for n, v in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        check=False, env=variables,
    )  # fmt: skip


def test_lines_of_image_libraries_are_dropped_and_others_are_passed_on():
    program = """
import os
from ifnd_tf.run import image_messages
os.write(2, b"before\\n")
with image_messages.dropped():
    os.write(2, b"Corrupt JPEG data: 3 extraneous bytes\\n")
    os.write(2, b"libpng warning: iCCP\\n")
    os.write(2, b"Bogus Huffman table definition\\nkept\\n")
os.write(2, b"Bogus after\\n")
"""
    assert python("-c", program).stderr == "before\nkept\nBogus after\n"


def test_the_reason_of_an_abort_is_seen():
    program = """
import os
from ifnd_tf.run import image_messages
with image_messages.dropped():
    os.write(2, b"out of memory\\n")
    os.abort()
"""
    found = python("-c", program)
    assert found.returncode < 0 and found.stderr == "out of memory\n"


def encoded(kind: str, seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def save_images(folder: pathlib.Path) -> None:
    """Two classes of 20 images, and one of each way to be damaged."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            (folder / name / f"{number}.jpg").write_bytes(encoded("JPEG", number))
    jpeg, png, gif = (encoded(kind, 0) for kind in ("JPEG", "PNG", "GIF"))
    damaged = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "tables.jpg": jpeg[:400] + bytes(300) + jpeg[700:],
        "extra.jpg": jpeg[:-2] + bytes(4) + jpeg[-2:],
        "start.jpg": jpeg[:3],
        "cut.png": png[: len(png) // 2],
        "sum.png": png[:60] + b"xxxx" + png[64:],
        "text.png": b"no image",
        "cut.gif": gif[: len(gif) // 2],
    }
    for name, content in damaged.items():
        (folder / "a" / name).write_bytes(content)


@pytest.mark.slow
def test_a_run_on_damaged_images_prints_no_error(tmp_path):
    save_images(tmp_path / "data")
    found = python(
        "main.py", f"--dataset=folder:{tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}",
        "--mode=train,evaluate,report", "--max_corrupt_share=0.5", "--batch_size=16",
        "--queue_size=16", "--epochs=2", "--warmup_epochs=1", "--num_clusters=3",
        "--acceptance=constant", "--image_size=16", "--backbone=resnet_tiny",
        "--protocols=knn,clustering", "--augmentation=moco_v2",
    )  # fmt: skip
    assert found.returncode == 0 and found.stderr == ""
    assert "7 unreadable images skipped" in found.stdout
    rows = (tmp_path / "run" / "unreadable.tsv").read_text().splitlines()
    assert len(rows) > 5


def test_pillows_warnings_of_damaged_images_are_dropped_and_others_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pillow.__wrapped__()
        warnings.warn_explicit("corrupt", UserWarning, "f", 1, module="PIL.TiffImagePlugin")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("corrupt", UserWarning, "f", 1, module="ifnd_tf.data")
