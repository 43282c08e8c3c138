"""The data of a run: found, then decoded once."""

import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data import datasets
from ifnd_tf.data.scan import require_share, scan
from ifnd_tf.data.source import Unreadable
from ifnd_tf.distribute.strategies import workers
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.words import counted
from ifnd_tf.stages import auto, build


def find(config: Config, progress: Progress, dataset: str = "") -> datasets.Splits:
    """The data of `--dataset`, or another; no image is decoded yet."""
    with progress.phase("finding images") as count:
        if dataset:
            splits = datasets.open_splits(
                dataset,
                data_dir=config.data_dir,
                holdout_share=config.holdout_share,
                decoding=build.decoding(config),
                progress=count,
            )
        else:
            splits = build.open_splits(config, progress=count)
    for note in splits.train.contents.notes:
        progress.line(f"note: {note.text}")
    return splits


def decoded(
    config: Config, strategy: tf.distribute.Strategy | None = None
) -> tuple[Config, datasets.Splits]:
    """Settings without auto, and their data decoded; no run directory, and nothing is printed."""
    progress = Progress(enabled=False)
    splits = find(config, progress)
    if config.undecided:
        config = auto.decided(config, splits.train)
    if config.scan_images:
        read(config, strategy or tf.distribute.get_strategy(), splits, progress)
        require_share(list(filter(None, splits)), config.max_corrupt_share)
    return config, splits


def read(
    config: Config,
    strategy: tf.distribute.Strategy,
    splits: datasets.Splits,
    progress: Progress,
    dataset: str = "",
) -> list[Unreadable]:
    """Decodes all images once; returns those that cannot be read.

    Images of another data set than the run's are read once more only, so none are kept in memory;
    nor any that `--data_service` reads.
    """
    sources = [source for source in splits if source is not None]
    room = 0 if dataset or config.data_service else config.cache_megabytes
    with progress.phase("reading images") as count:
        for source in sources:
            scan(
                source,
                max_corrupt_share=1.0,
                cache_megabytes=room,
                view_size=config.image_size,
                progress=count,
                workers=workers(strategy),
            )
            if source.kept is not None:
                room = max(0, room - source.kept.megabytes)
    unreadable = [row for source in sources for row in source.unreadable]
    if dataset and unreadable:
        progress.line(f"{dataset}: {counted(len(unreadable), 'unreadable image')} skipped")
    return unreadable
