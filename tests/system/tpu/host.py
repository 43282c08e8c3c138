"""What one host must deliver to its TPUs, against what a CPU core was measured to make.

    python -m tests.system.tpu.host --check=tpu.json [--json PATH]

`--check` is the result of `python -m tests.system.tpu --json`. The images are made here:
JPEGs of 500 x 375 pixels and about 70 kB; ImageNet's have that size and 110 kB on average.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import main
from tests.system.tpu.chips import CHIPS


def write_jpegs(folder: Path, count: int, seed: int = 0) -> int:
    """Writes JPEGs of ImageNet's usual size and detail; returns their mean size in bytes."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    total = 0
    for number in range(count):
        # Detail at all scales, as in photographs: each octave has half the amplitude.
        image = np.full((375, 500, 3), 128.0)
        for octave in range(8):
            size = (3 * 2**octave, 4 * 2**octave)
            noise = rng.normal(0, 64 * 0.74**octave, (*size, 3))
            image += tf.image.resize(noise, (375, 500), method="bilinear").numpy()
        encoded = tf.io.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), quality=92).numpy()
        (folder / f"{number:05d}.jpg").write_bytes(encoded)
        total += len(encoded)
    return total // count


def images_per_core_second(folder: Path, experiment: str, infeed_dtype: str, count: int) -> float:
    """Pairs of views made per second of one core's time, over `count` images.

    Counted in processor time, so that other processes on the machine do not matter.
    """
    from ifnd_tf.data import datasets, train_batches
    from ifnd_tf.stages import build

    config = main.parse_flagfile(
        experiment, f"--infeed_dtype={infeed_dtype}", "--batch_size=32", "--queue_size=32"
    )
    source = datasets.open_splits(f"folder:{folder}").train
    batches = train_batches.training_batches(
        source,
        augmentation=build.augmentation(config),
        image_size=config.image_size,
        batch_size=32,
        seed=0,
        infeed_dtype=infeed_dtype,
    )
    iterator = iter(batches)
    next(iterator)
    before = os.times()
    steps = count // 32
    for _ in range(steps):
        next(iterator)
    after = os.times()
    return steps * 32 / (after.user + after.system - before.user - before.system)


def needs(check: dict[str, Any], rates: dict[str, float], image_size: int) -> list[dict[str, Any]]:
    """What each kind of TPU's host must deliver if the chips run at their bound.

    Args:
        check: JSON of the TPU check.
        rates: images per core and second, by infeed dtype.
        image_size: S in pixels.

    Returns:
        Per kind: `images_per_second`, and by dtype `gigabytes_per_second` and `cores`.
    """
    width = {"uint8": 1, "bfloat16": 2, "float32": 4}
    rows = []
    for kind, found in check["tpus"].items():
        if "roofline" not in found:
            continue
        chip = CHIPS[kind]
        hosts = chip.replicas / (chip.devices_per_chip * chip.host_chips)
        images = found["roofline"]["images_per_second"] / hosts
        pair = 2 * image_size**2 * 3
        rows.append(
            {
                "kind": kind,
                "images_per_second": images,
                "infeed": {
                    dtype: {
                        "gigabytes_per_second": images * pair * width[dtype] / 1e9,
                        "cores": images / rate,
                    }
                    for dtype, rate in rates.items()
                },
            }
        )
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", default="", help="JSON of the TPU check, for images a second.")
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    parser.add_argument("--images", type=int, default=512, help="Images to make and read; >= 64.")
    parser.add_argument(
        "--experiment", default="experiments/imagenet_tpu.flags", help="Whose views are made."
    )
    return parser.parse_args()


def run() -> None:
    """Measures a core and prints what each kind of TPU's host needs."""
    options = _options()
    config = main.parse_flagfile(options.experiment)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        size = write_jpegs(folder, options.images)
        rates = {
            dtype: images_per_core_second(folder, options.experiment, dtype, options.images)
            for dtype in ("uint8", "bfloat16")
        }
    print(f"JPEGs of {size / 1e3:.0f} kB, two views of {config.image_size} px each:")
    for dtype, rate in rates.items():
        print(f"  infeed {dtype}: {rate:.0f} images a second and core")
    rows: list[dict[str, Any]] = []
    if options.check:
        check = json.loads(Path(options.check).read_text(encoding="utf-8"))
        rows = needs(check, rates, config.image_size)
    for row in rows:
        parts = [
            f"{dtype}: {need['gigabytes_per_second']:.1f} GB/s, {need['cores']:.0f} cores"
            for dtype, need in row["infeed"].items()
        ]
        print(f"{row['kind']}: {row['images_per_second']:.0f} images/s; " + "; ".join(parts))
    if options.json:
        results = {"jpeg_bytes": size, "images_per_core_second": rates, "hosts": rows}
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run()
