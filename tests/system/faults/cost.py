"""What checkpoints cost a training like that of CIFAR-10, as a share of its time.

The step waits while variables are copied; files are written beside it. Both are timed by
themselves, since their sum is far below what two runs of one training differ by.
"""

import pathlib
import shutil
import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf

import main
from ifnd_tf.data.array_source import ArraySource
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.stages import build, build_detection, sizes

_IMAGES = 50_000


def measure(workdir: str, *, flagfile: str, repeats: int = 20) -> dict[str, Any]:
    """Times steps, copies and writes of an experiment on images of CIFAR-10's number and size.

    Returns:
        Seconds of a step, a copy and a write; "checkpoint_megabytes"; "share_waiting", the part
        of an epoch that training waits for its checkpoints (one at the end, others as
        `--checkpoint_minutes` has it), and "share_at_most", as if it waited for writes too.
    """
    config = main.parse_flagfile(flagfile)
    strategy = tf.distribute.get_strategy()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (_IMAGES, 32, 32, 3), np.uint8)
    source = ArraySource("random", pixels, np.arange(_IMAGES) % 10)
    steps = sizes.steps_per_epoch(config, source)
    model = build.model(config, strategy, num_examples=_IMAGES, steps_per_epoch=steps)
    detector = build_detection.make_detector(config, strategy, model, source)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, detector=detector)
    train = model.make_train_function()
    batches = iter(build.training_batches(config, strategy, source, 0))
    train(batches)
    store = CheckpointStore(str(pathlib.Path(workdir) / "checkpoints"))
    steps_taken, copies, writes, size = [], [], [], 0
    for number in range(repeats):  # in turn, so that a busy machine weighs on all alike
        steps_taken.append(_timed(lambda: float(train(batches)["loss"])))
        begin = time.perf_counter()
        snapshot = Snapshot.take(number, checkpoint, {})
        copies.append(time.perf_counter() - begin)
        writes.append(_timed(lambda snapshot=snapshot: store.write(snapshot)))
        snapshot.drop()
        folder = pathlib.Path(store.path(number))
        size = sum(path.stat().st_size for path in folder.iterdir())
        store.prune(keep=1, newest=snapshot.step)
    shutil.rmtree(store.folder)
    step = statistics.median(steps_taken[1:])
    epoch = step * steps
    count = 1 + (epoch / (60 * config.checkpoint_minutes) if config.checkpoint_minutes else 0)
    copy, write = statistics.median(copies[1:]), statistics.median(writes[1:])
    return {
        "flagfile": flagfile,
        "step_seconds": step,
        "epoch_seconds": epoch,
        "copy_seconds": copy,
        "write_seconds": write,
        "checkpoint_megabytes": size / 1e6,
        "share_waiting": count * copy / epoch,
        "share_at_most": count * (copy + write) / epoch,
    }


def _timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
