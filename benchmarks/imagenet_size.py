"""A run at ImageNet's size through every stage: seconds, rates, memory and silence of each phase.

    python -m benchmarks.imagenet_size [--num=1281167] [--folder=DIR] --json -

The images are small JPEGs in tfds records, and the encoder is tiny, so that what is measured is
the cost of the number of images. A phase is what the terminal names. The run is stopped by
SIGTERM at nine tenths of its first epoch and started again, to measure how it resumes.
"""

import argparse
import io
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks import rows
from benchmarks.peer import ROOT
from benchmarks.rows import Row, row

NAME, CLASSES, SIDE, TEST_IMAGES = "small_pictures", 1000, 32, 5_000
STOP = 0.9  # share of the first epoch
_STEP = re.compile(r"step ([\d,]+)/([\d,]+)\s+training")
# imagenet.flags, small in everything but the number of images.
_FLAGS = (
    "--flagfile=experiments/imagenet.flags", f"--dataset=tfds:{NAME}", "--eval_split=test",
    "--backbone=resnet_tiny", "--width=8", "--stem=cifar", "--image_size=16", "--batch_size=512",
    "--queue_size=4096",
    "--num_clusters=1000,5000", "--epochs=2", "--warmup_epochs=0", "--acceptance=constant",
    "--acceptance_end=1", "--linear_epochs=5", "--label_subsets=1", "--label_shares=1%",
    "--protocols=knn,linear,few_labels,clustering", "--mode=train,evaluate,export,report",
)  # fmt: skip


class Phase(NamedTuple):
    """The cost of a phase.

    Attributes:
        seconds: in all.
        peak: the most resident bytes.
        silence: the longest time without output, in seconds.
        most: the greatest number that it counted to, such as images; 0 if it did not count.
    """

    seconds: float = 0.0
    peak: int = 0
    silence: float = 0.0
    most: int = 0


def make(folder: pathlib.Path, num: int) -> None:
    """Writes prepared tfds data: `num` training images, and `TEST_IMAGES` to test on."""
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from PIL import Image

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
    )
    random = np.random.default_rng(0)
    means = random.uniform(40, 216, [CLASSES, 4, 4, 3])

    def picture(label: int) -> bytes:
        coarse = np.clip(means[label] + random.normal(0, 25, [4, 4, 3]), 0, 255)
        image = Image.fromarray(coarse.astype(np.uint8)).resize(
            [SIDE, SIDE], Image.Resampling.BICUBIC
        )
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    labels = np.arange(20 * CLASSES) % CLASSES
    records = [
        features.serialize_example({"image": picture(int(label)), "label": int(label)})
        for label in labels
    ]
    path = folder / NAME / "1.0.0"
    path.mkdir(parents=True)
    splits = []
    for split, count in (("train", num), ("test", TEST_IMAGES)):
        shards = max(1, count // 1250)
        lengths = np.diff(np.linspace(0, count, shards + 1).astype(int)).tolist()
        template = tfds.core.ShardedFileTemplate(
            dataset_name=NAME, data_dir=path, split=split, filetype_suffix="tfrecord"
        )
        written = 0
        for number, length in enumerate(lengths):
            file = template.sharded_filepath(shard_index=number, num_shards=shards)
            with tf.io.TFRecordWriter(str(file)) as writer:
                for chosen in random.integers(len(records), size=length):
                    writer.write(records[chosen])
                    written += len(records[chosen])
        splits.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=written, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=path, features=features, split_infos=splits, check_data=False
    )


class Watched(NamedTuple):
    """What a command printed and cost.

    Attributes:
        phases: by name.
        first_step: seconds from the launch to the first training step; nan without one.
    """

    phases: dict[str, Phase]
    first_step: float


def watched(command: list[str], stop: float = float("inf")) -> Watched:
    """Runs a command on a terminal of its own, up to the share `stop` of its first epoch."""
    leader, follower = pty.openpty()
    # A terminal gets a status every half second, a pipe every 15 seconds.
    child = subprocess.Popen(command, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    process, name = psutil.Process(child.pid), "start"
    found: dict[str, Phase] = {}
    launched = said = last = time.monotonic()
    first_step, stopped, text = float("nan"), False, ""
    while True:
        ready, _, _ = select.select([leader], [], [], 0.2)
        now = time.monotonic()
        try:
            heard = os.read(leader, 1 << 16).decode("utf-8", "replace") if ready else ""
            memory = process.memory_info().rss
        except (OSError, psutil.NoSuchProcess):
            break
        before = found.get(name, Phase())
        found[name] = before._replace(
            seconds=before.seconds + now - last,
            peak=max(before.peak, memory),
            silence=max(before.silence, now - said),
        )
        last = now
        if not heard:
            continue
        said = now
        sys.stderr.write(heard)
        text = (text + heard)[-4096:]
        line = re.split(r"[\r\n]+", text.rstrip())[-1]
        name, most = _phase(line) or (name, 0)
        found[name] = (p := found.get(name, Phase()))._replace(most=max(p.most, most))
        if step := _STEP.search(line):
            if np.isnan(first_step):
                first_step = now - launched
            if not stopped and _number(step[1]) >= stop * _number(step[2]):
                child.send_signal(signal.SIGTERM)
                stopped = True
    if child.wait() and not stopped:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return Watched(found, first_step)


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _phase(line: str) -> tuple[str, int] | None:
    """The phase that a status line names, and the number that it counts to."""
    words = re.sub(r"^epoch \d+/\d+\s+", "", line.strip())
    if step := re.match(r"step [\d,]+/([\d,]+)\s+(compiling|reading|training)", words):
        return step[2], _number(step[1])
    if counted := re.match(r"([a-z][a-zA-Z ,\-]*?) [\d,]+/([\d,]+)", words):
        return counted[1], _number(counted[2])
    if named := re.match(r"([a-z][a-zA-Z ,\-]*?) \.\.\.", words):
        return named[1], 0
    return None


def _both(first: dict[str, Phase], second: dict[str, Phase]) -> dict[str, Phase]:
    """The cost of the phases of two processes."""
    found = dict(first)
    for name, phase in second.items():
        before = found.get(name, Phase())
        found[name] = Phase(
            before.seconds + phase.seconds,
            max(before.peak, phase.peak),
            max(before.silence, phase.silence),
            max(before.most, phase.most),
        )
    return found


def measure(num: int, folder: pathlib.Path | None) -> Iterator[Row]:
    """Rows of every phase."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or pathlib.Path(temporary)
        data = place / f"data-{num}"
        if not data.exists():
            begin = time.monotonic()
            make(data, num)
            yield row(f"N = {num:,}: making the data", "time, s", [time.monotonic() - begin])
        run, start = place / f"run-{num}", pathlib.Path(temporary) / "start"
        command = [sys.executable, "main.py", *_FLAGS, f"--data_dir={data}"]
        # With a warm-up, as imagenet.flags has one; the long run detects before its first step.
        started = watched([*command, f"--workdir={start}", "--warmup_epochs=1"], stop=0)
        yield row(f"N = {num:,}: launch to first step", "time, s", [started.first_step])
        command.append(f"--workdir={run}")
        begin = time.monotonic()
        stopped, resumed = watched(command, STOP), watched(command)
        yield row(f"N = {num:,}: the whole run", "time, s", [time.monotonic() - begin])
        yield row(f"N = {num:,}: the same, resumed", "time, s", [resumed.first_step])
        for name, phase in _both(stopped.phases, resumed.phases).items():
            case = f"N = {num:,}: {name}"
            yield row(case, "time, s", [phase.seconds])
            yield row(case, "peak memory, MB", [phase.peak / 1e6])
            yield row(case, "longest silence, s", [phase.silence])
            if phase.most > 1:
                yield row(case, "counted to", [phase.most])
        size = (run / "report.html").stat().st_size
        yield row(f"N = {num:,}: report", "size, MB", [size / 1e6])
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        yield row(f"N = {num:,}: training", "images/s", [records[-1]["images_per_second"]])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=1_281_167, help="training images")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="keep data and run here, and reuse them"
    )
    rows.run("imagenet_size", parser, measure)


if __name__ == "__main__":
    main()
