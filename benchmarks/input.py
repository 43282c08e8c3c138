"""Two random views an image, images a second on one core: ours, simclr's, torchvision's on Pillow.

    git clone https://github.com/google-research/simclr .venv-peers/simclr
    python -m benchmarks.input --data=data/cifar10 --json -

Everybody reads the same JPEGs, pieces of scikit-learn's two photographs, on the same core in turn.
With `--data`, also how long the steps of a CIFAR-10 run wait for their input, on all cores.
"""

import argparse
import contextlib
import functools
import io
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import peer, rows
from benchmarks.memory import apart
from benchmarks.rows import Row, in_turn, row, seconds

FILES, BATCH = 256, 64
# As many batches as simclr's shuffle buffer takes in at a time: a pass decodes each file once.
BATCHES = FILES // BATCH
_QUALITY = 90
# Sides of the files (height, width) and of the views, the recipe's flags, and simclr's own
# settings for images of that size, from its README.
_SIZES = (
    ((375, 500), 224, ("--cache_megabytes=0",), {"strength": 1.0, "blur": True}),
    ((1500, 2000), 64, (), {"strength": 1.0, "blur": True}),
    ((32, 32), 32, ("--blur_probability=0",), {"strength": 0.5, "blur": False}),
)


def write_photos(folder: pathlib.Path, height: int, width: int, count: int = FILES) -> int:
    """Writes so many JPEGs of random pieces, at most 16 times reduced; returns their mean bytes."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    generator, total = np.random.default_rng(0), 0
    for number in range(count):
        photo = photos[number % len(photos)]
        scale = min(photo.height / height, photo.width / width, 16.0)
        scale *= generator.uniform(0.8, 1.0) if scale > 1.25 else 1.0
        high, wide = int(height * scale), int(width * scale)
        top = int(generator.integers(photo.height - high + 1))
        left = int(generator.integers(photo.width - wide + 1))
        piece = photo.crop((left, top, left + wide, top + high)).resize((width, height))
        content = io.BytesIO()
        piece.save(content, "JPEG", quality=_QUALITY)
        (folder / f"{number:04d}.jpg").write_bytes(content.getvalue())
        total += len(content.getvalue())
    return total // count


def drawn(dataset: object, batches: int) -> float:
    """Seconds of so many batches of a fresh pass, after its first."""
    iterator = iter(dataset)  # type: ignore[call-overload]
    next(iterator)
    return seconds(lambda: [next(iterator) for _ in range(batches)])


def ours(folder: pathlib.Path, size: int, flags: tuple[str, ...], infeed: str) -> object:
    """The batches that training would get; float32: nothing is left for the device."""
    import tensorflow as tf

    import main as entry
    from ifnd_tf.stages import build, open_data

    config = entry.parse(
        [
            f"--dataset=folder:{folder}", "--augmentation=moco_v2", f"--image_size={size}",
            f"--batch_size={BATCH}", f"--infeed_dtype={infeed}", *flags,
        ]
    )  # fmt: skip
    assert config is not None
    strategy = tf.distribute.get_strategy()
    config, splits = open_data.decoded(config, strategy)
    return build.training_batches(config, strategy, splits.train, 0)


def decoding(folder: pathlib.Path) -> object:
    """Batches of JPEGs that are decoded whole, and no more."""
    import tensorflow as tf

    paths = sorted(str(path) for path in folder.glob("*.jpg"))
    files = tf.data.Dataset.from_tensor_slices(paths).repeat()

    def decode(path: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)

    return files.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(1)


def measure(data: str, simclr: str, rounds: int) -> Iterator[Row]:
    """All rows."""
    if data:  # In a process of its own: threads keep the cores that they start with.
        waited, step = apart("benchmarks.input", "waiting", data)
        yield row("CIFAR-10 training", "cost of waiting for input, s", [waited], [step], "a step")
    if hasattr(os, "sched_setaffinity"):  # Elsewhere everybody has all cores.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for (height, width), size, flags, settings in _SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            kilobytes = write_photos(folder, height, width) / 1000
            case = f"{width} x {height} JPEG ({kilobytes:.0f} kB) to {size} px"
            yield from _compare(case, folder, size, flags, settings, simclr, rounds)


def _compare(
    case: str,
    folder: pathlib.Path,
    size: int,
    flags: tuple[str, ...],
    settings: dict[str, float | bool],
    simclr: str,
    rounds: int,
) -> Iterator[Row]:
    """Rows of one size: first what the host does for a device, then everything."""
    images = BATCHES * BATCH
    host = ours(folder, size, flags, "uint8")
    whole = ours(folder, size, flags, "float32")
    decoded = decoding(folder)
    contenders = {
        "host": lambda: images / drawn(host, BATCHES),
        "whole": lambda: images / drawn(whole, BATCHES),
        "decoding": lambda: images / drawn(decoded, BATCHES),
    }
    with contextlib.ExitStack() as peers:
        names = {"host": ["decoding"], "whole": []}
        theirs = peers.enter_context(
            peer.started("torchvision_input", "PyTorch, torchvision and Pillow")
        )
        if theirs is not None:
            theirs.call("build", folder=str(folder), size=size, blur=settings["blur"], batch=BATCH)
            contenders["torchvision"] = functools.partial(_peers_speed, theirs)
            names = {part: [*who, "torchvision"] for part, who in names.items()}
        if not pathlib.Path(simclr, "data_util.py").exists():
            print(
                f"simclr: not in {simclr}; `git clone https://github.com/google-research/simclr "
                ".venv-peers/simclr` brings it, or --simclr names its tf2 folder.",
                file=sys.stderr,
            )
        else:
            for part, blur in (("host", False), ("whole", settings["blur"])):
                name = "simclr, blur too" if blur else "simclr"
                names[part].append(name)
                if name in contenders:
                    continue
                other = peer.Peer("simclr_input", pathlib.Path(sys.executable))
                peers.callback(other.close)
                other.call(
                    "build", folder=str(folder), simclr=os.path.abspath(simclr), size=size,
                    strength=settings["strength"], blur=blur, batch=BATCH,
                )  # fmt: skip
                contenders[name] = functools.partial(_peers_speed, other)
        found = in_turn(contenders, rounds)
    for part, what in (("host", "crops, the rest on the device"), ("whole", "finished views")):
        metric = f"{what}, images/s and core"
        if not names[part]:
            yield row(case, metric, found[part], larger_is_better=True)
        for name in names[part]:
            yield row(case, metric, found[part], found[name], name, larger_is_better=True)


def _peers_speed(other: peer.Peer) -> float:
    return BATCHES * BATCH / other.call("seconds", batches=BATCHES)


def waiting(data: str, steps: int = 60) -> tuple[float, float]:
    """The seconds that a step of a CIFAR-10 run waits for its batch, and those that it takes."""
    import tensorflow as tf

    from benchmarks.run_parts import parts

    run = parts("--flagfile=experiments/cifar10_cpu.flags", f"--dataset=folder:{data}")
    step, batches = tf.function(run.model.train_step), run.batches()
    for _ in range(5):
        float(step(next(batches))["loss"])
    waited, whole = 0.0, time.perf_counter()
    for _ in range(steps):
        begin = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - begin
        float(step(batch)["loss"])
    whole = time.perf_counter() - whole
    return waited / steps, whole / steps


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="", help="CIFAR-10 as class folders: also time waiting")
    parser.add_argument(
        "--simclr",
        default=str(peer.ENVIRONMENT / "simclr" / "tf2"),
        help="the tf2 folder of google-research/simclr",
    )
    parser.add_argument("--rounds", type=int, default=5)
    rows.run("input", parser, measure)


if __name__ == "__main__":
    main()
