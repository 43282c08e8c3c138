"""Numbers that follow from the flags, the data and the devices: batch, queue, clusters, steps."""

import math

import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.config.num_clusters import resolve_num_clusters
from ifnd_tf.data import train_batches
from ifnd_tf.data.source import Source
from ifnd_tf.detection import detectors
from ifnd_tf.distribute.replicas import exchange_pieces
from ifnd_tf.errors import UserError
from ifnd_tf.run.words import counted


def num_clusters(config: Config, num_examples: int) -> list[int]:
    """K of each level; none if `--detector` does not cluster."""
    if not issubclass(detectors.DETECTORS[config.detector], detectors.ClusterDetector):
        return []
    return resolve_num_clusters(config.num_clusters, num_examples)


def num_levels(config: Config, num_examples: int) -> int:
    """L, the rows of the label variable."""
    if config.detector == "neighbours":
        return config.num_neighbours
    return (
        len(num_clusters(config, num_examples)) or detectors.DETECTORS[config.detector].num_levels
    )


def num_negatives(config: Config) -> int:
    """Negatives of each anchor, with a full queue."""
    return config.queue_size if config.framework == "moco" else 2 * config.batch_size - 2


def loss_at_chance(config: Config) -> float:
    """The loss in nats when all similarities are equal: ln(1 + negatives)."""
    return math.log(1 + num_negatives(config))


def replica_batch(config: Config, strategy: tf.distribute.Strategy) -> int:
    """Batch size of one replica.

    Raises:
        UserError: if the replicas do not divide the batch.
    """
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size: expected a multiple of the {replicas} replicas. Received: "
            f"{config.batch_size}; try {math.ceil(config.batch_size / replicas) * replicas}."
        )
    return config.batch_size // replicas


def batch_norm_policy(config: Config, strategy: tf.distribute.Strategy) -> tuple[str, int]:
    """The policy of `--batch_norm` and its number of splits on this strategy.

    Raises:
        UserError: if the policy does not fit the replicas or the batch.
    """
    replicas, rows = strategy.num_replicas_in_sync, replica_batch(config, strategy)
    policy, splits = config.batch_norm, config.batch_norm_splits
    if policy == "auto":
        if config.framework == "simclr":
            policy = "sync"
        else:
            policy = "shuffle" if replicas > 1 else "split"
            splits = _splits(rows, splits)
    if policy == "shuffle":
        if replicas == 1:
            raise UserError(
                "--batch_norm=shuffle: expected at least two replicas. Received: 1; use "
                "--batch_norm=split."
            )
        exchange_pieces(rows, replicas)
    if policy == "split" and (rows % splits or rows // splits < 2):
        raise UserError(
            f"--batch_norm_splits: expected a divisor of the replica's batch of {rows} that "
            f"leaves at least 2 images a part. Received: {splits}; try "
            f"{'a greater --batch_size' if rows < 2 else _splits(rows, splits)}."
        )
    return policy, splits


def steps_per_epoch(config: Config, source: Source) -> int:
    """Steps of an epoch over the readable images.

    Raises:
        UserError: if there is a single image, or the batch or the queue is larger than the data.
    """
    readable = len(source.readable)
    if readable < 2:
        raise UserError(
            "--dataset: expected several training images, since an image's negatives are the other "
            f"images. Received: {readable} of {source.name}; some hundreds are a start."
        )
    if config.batch_size > readable:
        raise UserError(
            f"--batch_size: expected at most the {counted(readable, 'training image')}. Received: "
            f"{config.batch_size}; try --batch_size={_power_of_two(readable // 4)} "
            "--queue_size=auto."
        )
    if config.framework == "moco" and config.queue_size > readable:
        most = readable // config.batch_size * config.batch_size
        raise UserError(
            f"--queue_size: expected at most the {counted(readable, 'training image')}, or the "
            f"queue would hold several keys of each. Received: {config.queue_size}; try {most}, or "
            "auto."
        )
    return train_batches.steps_per_epoch(source, config.batch_size)


def require_detection(config: Config) -> None:
    """Raises `UserError` if the warm-up leaves no epoch to detect in."""
    if config.detector in ("ifnd", "random") and config.warmup_epochs >= config.epochs:
        raise UserError(
            f"--warmup_epochs: expected fewer than --epochs={config.epochs}, or nothing is ever "
            f"detected. Received: {config.warmup_epochs}; try {config.epochs // 10}."
        )


def _splits(rows: int, most: int) -> int:
    """The greatest divisor of `most` that splits `rows` into equal parts of at least 2."""
    return max(
        (n for n in range(1, most + 1) if most % n == rows % n == 0 and rows >= 2 * n), default=1
    )


def _power_of_two(number: int) -> int:
    """The largest power of two up to a number, and at least 2."""
    return max(2, 1 << max(number, 1).bit_length() - 1)
