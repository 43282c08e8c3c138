"""A run at ImageNet's size through every stage: seconds, rates, memory and silence of each phase.

    python -m benchmarks.imagenet_size [--num=1281167] [--folder=DIR] --json -

The images are small JPEGs in tfds records, and the encoder is tiny, so that what is measured is
the cost of the number of images. A phase is what the terminal names.
"""

import argparse
import io
import json
import os
import pathlib
import pty
import re
import select
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

NAME, CLASSES, SIDE = "small_pictures", 1000, 32
# Of imagenet.flags all but what makes it large.
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
        silence: the longest time without a word, in seconds.
        most: the greatest number that it counted to, such as images; 0 if it did not count.
    """

    seconds: float = 0.0
    peak: int = 0
    silence: float = 0.0
    most: int = 0


def make(folder: pathlib.Path, num: int) -> None:
    """Writes prepared tfds data: `num` training images, and a fortieth as many to test on."""
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
    for split, count in (("train", num), ("test", max(CLASSES, num // 40))):
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


def watched(command: list[str]) -> dict[str, Phase]:
    """Runs a command on a terminal of its own; what it said and took, by phase."""
    leader, follower = pty.openpty()
    # An interactive terminal is told every half second.
    child = subprocess.Popen(command, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    process, name = psutil.Process(child.pid), "start"
    found: dict[str, Phase] = {}
    said = last = time.monotonic()
    text = ""
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
    if child.wait():
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return found


def _phase(line: str) -> tuple[str, int] | None:
    """The phase that a status line names, and the number that it counts to."""
    words = re.sub(r"^epoch \d+/\d+\s+", "", line.strip())
    if step := re.match(r"step [\d,]+/([\d,]+)\s+(compiling|training)", words):
        return step[2], int(step[1].replace(",", ""))
    if counted := re.match(r"([a-z][a-zA-Z ,\-]*?) [\d,]+/([\d,]+)", words):
        return counted[1], int(counted[2].replace(",", ""))
    if named := re.match(r"([a-z][a-zA-Z ,\-]*?) \.\.\.", words):
        return named[1], 0
    return None


def measure(num: int, folder: pathlib.Path | None) -> Iterator[Row]:
    """Rows of every phase."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or pathlib.Path(temporary)
        data = place / f"data-{num}"
        if not data.exists():
            begin = time.monotonic()
            make(data, num)
            yield row(f"N = {num:,}: making the data", "time, s", [time.monotonic() - begin])
        run = place / f"run-{num}"
        begin = time.monotonic()
        phases = watched(
            [sys.executable, "main.py", *_FLAGS, f"--data_dir={data}", f"--workdir={run}"]
        )
        yield row(f"N = {num:,}: the whole run", "time, s", [time.monotonic() - begin])
        for name, phase in phases.items():
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
