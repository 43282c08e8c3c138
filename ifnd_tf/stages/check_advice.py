"""Advice of `--mode=check`: the settings against the images, the machine and the time."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ifnd_tf.config import Config
from ifnd_tf.config.command import command
from ifnd_tf.data.source import Source
from ifnd_tf.run.progress import duration
from ifnd_tf.run.words import counted
from ifnd_tf.stages import auto, build, check_cost, sizes
from ifnd_tf.stages.run import Run

# A longer run is advised against without an accelerator.
_LONGEST = 3600.0
# Plan for less than that, since evaluation, export and report come on top.
_PLANNED = 0.8 * _LONGEST
# Fewer steps leave an encoder not much better than an untrained one.
_FEWEST_STEPS = 1000
# Fewer images are hardly worth a training, however long.
_FEWEST_IMAGES = 200
# A network that a CPU can train, that of experiments/photos.flags.
_SMALL = {"backbone": "resnet_small", "depth": 8, "width": 32}
_LARGE = ("resnet34", "resnet50", "resnet101")


def views(config: Config, short: float) -> Iterator[str]:
    """Advice on the size of the views and the first layers.

    Args:
        config: the settings.
        short: the images' median short side, in pixels.
    """
    side = config.image_size
    wanted = auto.image_size(short, accelerated=auto.has_accelerator())
    if 2 * side <= min(wanted, short) or side > max(32, 2 * short):
        loss = "detail" if wanted > side else "time"
        yield (
            f"views are {side} pixels wide and the images {short:.0f}, so {loss} is lost: "
            f"--image_size={wanted} --stem={auto.stem(wanted)}"
        )
    elif config.backbone.startswith("resnet"):
        if config.stem == "imagenet" and side <= 64:
            yield (
                f"--stem=imagenet leaves {side // 4} of {side} pixels to the first stage, so "
                f"detail is lost: --stem={auto.stem(side)}"
            )
        if config.stem == "cifar" and side >= 96:
            yield (
                f"--stem=cifar computes the first stage at all {side} pixels, 4 times the cost of "
                f"--stem={auto.stem(side)}"
            )


def training(config: Config, num_examples: int, steps: int) -> Iterator[str]:
    """Advice on network, batch and epochs against the number of images.

    Args:
        config: the settings.
        num_examples: N.
        steps: training steps of an epoch.
    """
    if config.backbone in _LARGE and num_examples < 10_000:
        yield (
            f"--backbone={config.backbone} is large for {counted(num_examples, 'image')}; resnet18 "
            "learns as much from them in less time"
        )
    if config.framework == "simclr" and config.batch_size < 256:
        yield (
            f"--framework=simclr has the batch's other views as its only negatives, "
            f"{sizes.num_negatives(config)} here: --framework=moco has a queue"
        )
    total = config.epochs * steps
    if num_examples < _FEWEST_IMAGES:
        yield (
            f"{counted(num_examples, 'image')} are few to learn from, however long; an "
            "encoder that others have trained embeds them at once: --mode=embed --init_from=, or "
            "--saved_model="
        )
    elif steps < 8 and config.batch_size > 32:
        yield (
            f"an epoch has only {counted(steps, 'step')}; smaller batches give more of them: "
            f"--batch_size=32 --learning_rate={config.learning_rate * 32 / config.batch_size:.2g} "
            "--queue_size=auto"
        )
    elif total < _FEWEST_STEPS:
        yield (
            f"{counted(config.epochs, 'epoch')} of {total:,} steps in all, few to learn from: "
            f"--epochs={math.ceil(_FEWEST_STEPS / steps)}"
        )


def hours(run: Run, measured: check_cost.StepCost, teacher_width: int = 0) -> Iterator[str]:
    """Advice on a run that takes more than an hour without an accelerator; see `faster`."""
    seconds = check_cost.run_seconds(run.config, run.splits.train, run.steps_per_epoch, measured)
    if seconds <= _LONGEST or auto.has_accelerator():
        return
    found = faster(run, measured, teacher_width)
    takes = f"the run takes {duration(seconds)} without a GPU or TPU"
    if found:
        takes += f"; this command takes about {duration(found[1])}:\n      {found[0]}"
    yield takes


def faster(
    run: Run, measured: check_cost.StepCost, teacher_width: int = 0
) -> tuple[str, float] | None:
    """One complete command that trains within an hour on a CPU, or as near to that as makes sense.

    Its network is tried for 20 steps as the run's own was, unless they are the same.

    Args:
        run: the run that takes longer.
        measured: its steps.
        teacher_width: of the teacher's rows; 0: there is no teacher.

    Returns:
        The command and its seconds, or None if the run is as fast already.
    """
    config, source, steps = run.config, run.splits.train, run.steps_per_epoch
    smaller = _changed(config, _small(config))
    cost = measured
    if smaller:
        config = dataclasses.replace(config, **smaller)
        model = build.model(
            config, run.strategy, num_examples=source.num_examples, steps_per_epoch=steps,
            teacher_width=teacher_width,
        )  # fmt: skip
        with run.progress.phase("trying a smaller network, steps") as count:
            cost = check_cost.measure_steps(config, run.strategy, source, model, count)
    shorter = {}
    seconds = check_cost.run_seconds(config, source, steps, cost)
    if seconds > _PLANNED:
        shorter = _changed(config, _fewer_epochs(config, steps, _PLANNED / seconds))
        config = dataclasses.replace(config, **shorter)
        seconds = check_cost.run_seconds(config, source, steps, cost)
    if not smaller and not shorter:
        return None
    changes = smaller | shorter | {"mode": Config().mode}
    if run.directory.flags():
        changes["workdir"] = f"{config.run_path}_fast"
    return command(dataclasses.replace(run.given, **changes)), seconds


def _small(config: Config) -> dict[str, Any]:
    """Settings of a network that a CPU can train."""
    side = min(config.image_size, auto.SIDE_ON_CPU)
    return {**_SMALL, "image_size": side, "stem": "stride2" if side >= 32 else config.stem}


def _fewer_epochs(config: Config, steps: int, share: float) -> dict[str, Any]:
    """Settings of the schedule for a share of the epochs, the warm-ups in proportion."""
    least = min(config.epochs, max(2, math.ceil(_FEWEST_STEPS / steps)))
    epochs = max(least, int(config.epochs * share))
    share = epochs / config.epochs
    ends = config.acceptance_end_epoch
    warmup = min(round(config.warmup_epochs * share), epochs - 1)
    return {
        "epochs": epochs,
        "warmup_epochs": warmup,
        "learning_rate_warmup_epochs": config.learning_rate_warmup_epochs * share,
        "acceptance_end_epoch": ends and max(warmup + 1, round(ends * share)),
    }


def _changed(config: Config, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if getattr(config, name) != value}


def faster_input(config: Config, source: Source) -> str:
    """What to do about input that the device waits for."""
    cache = "raise --cache_megabytes, so that all stay decoded, "
    if source.in_memory(config.image_size):
        cache = ""
    return (
        f"making a batch takes as long as training on it: {cache}store the images smaller (their "
        f"short side about {3 * config.image_size} pixels), or use a machine with more cores"
    )
