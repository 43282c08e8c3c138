"""Builds the parts of a run from a `Config`: model and data pipelines."""

import functools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data import augment, datasets, eval_batches, train_batches
from ifnd_tf.data.source import Source
from ifnd_tf.detection import detectors, pseudo_labels
from ifnd_tf.detection.schedule import WarmupCosine
from ifnd_tf.distribute.replicas import exchange_pieces
from ifnd_tf.errors import UserError
from ifnd_tf.models import backbones, optimizers
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.loss import LossSettings
from ifnd_tf.models.memory_bank import KeyMemory
from ifnd_tf.models.moco import MoCo
from ifnd_tf.models.network import Network, projector
from ifnd_tf.models.simclr import SimCLR

# MoCo v2's queue for ImageNet.
_LARGEST_QUEUE = 65536


def open_splits(config: Config) -> datasets.Splits:
    """The data of `--dataset`, opened; nothing is decoded yet."""
    return datasets.open_splits(
        config.dataset,
        data_dir=config.data_dir,
        data_root=config.data_root,
        train_split=config.train_split,
        eval_split=config.eval_split,
        holdout_share=config.holdout_share,
        validation_share=config.validation_share,
        subset_classes=config.subset_classes,
        subset_images=config.subset_images,
    )


def augmentation(config: Config) -> augment.Augmentation:
    """The recipe with the flags' overrides."""
    return augment.recipe(
        config.augmentation,
        **{name: getattr(config, name) for name in augment.Augmentation._fields},
    )


def num_clusters(config: Config, num_examples: int) -> list[int]:
    """K of each level that `detector` clusters into; none for one that does not cluster."""
    if not detectors.named(config.detector).clusters:
        return []
    return pseudo_labels.resolve_num_clusters(config.num_clusters, num_examples)


def queue_size(config: Config, num_examples: int) -> int:
    """Q of `--queue_size`; 0 stands for the most that rarely holds an image's own older key."""
    most = min(_LARGEST_QUEUE, num_examples // 2)
    return config.queue_size or max(1, most // config.batch_size) * config.batch_size


def replica_batch(config: Config, strategy: tf.distribute.Strategy) -> int:
    """Images of a step on one replica.

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
    """The policy and the number of splits that `--batch_norm` stands for on this strategy.

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
            splits = math.gcd(rows, splits)
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
            f"leaves at least 2 images a part. Received: {splits}."
        )
    return policy, splits


def build(
    config: Config,
    strategy: tf.distribute.Strategy,
    *,
    num_examples: int,
    steps_per_epoch: int = 1,
) -> ContrastiveModel:
    """A compiled model with fresh weights, a function of the seed.

    Args:
        config: the run's settings.
        strategy: where its variables live.
        num_examples: N, the size of the training index space.
        steps_per_epoch: for the learning rate's schedule.
    """
    policy, splits = batch_norm_policy(config, strategy)

    def network() -> Network:
        encoder = backbones.build(
            config.backbone,
            image_size=config.image_size,
            stem=config.stem,
            depth=config.depth,
            width=config.width,
            batch_norm=policy,
            batch_norm_splits=splits,
        )
        width = encoder.output_shape[-1]
        return Network(encoder, projector(width, config.hidden_dim, config.projection_dim))

    kind = detectors.named(config.detector)
    shared: dict[str, Any] = {
        "num_examples": num_examples,
        "num_levels": len(num_clusters(config, num_examples)) or kind.num_levels,
        "loss": LossSettings(
            config.temperature, config.loss, config.rescale_negatives, config.level_combination
        ),
    }
    if config.infeed_dtype == "uint8":
        shared["photometric"] = functools.partial(
            augment.photometric, augmentation=augmentation(config)
        )
    keras.utils.set_random_seed(config.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        with strategy.scope():
            query_network = network()
            if config.embedding_source == "keys" and num_clusters(config, num_examples):
                shared["memory"] = KeyMemory(
                    strategy,
                    num_examples=num_examples,
                    width=clustered_width(config, query_network),
                    momentum=config.keys_momentum,
                    features=config.cluster_on == "features",
                )
            if config.framework == "moco":
                model: ContrastiveModel = MoCo(
                    query_network,
                    network(),
                    queue_size=queue_size(config, num_examples),
                    key_momentum=config.key_momentum,
                    batch_norm=policy,
                    batch_norm_splits=splits,
                    **shared,
                )
            else:
                model = SimCLR(query_network, batch_size=config.batch_size, **shared)
            _compile(model, config, steps_per_epoch)
    finally:
        keras.config.set_dtype_policy(before)
    return model


def clustered_width(config: Config, network: Network) -> int:
    """D of what is clustered."""
    clustered = network.encoder if config.cluster_on == "features" else network.projector
    return clustered.output_shape[-1]


def _compile(model: ContrastiveModel, config: Config, steps_per_epoch: int) -> None:
    optimizer = optimizers.make(
        config.optimizer,
        learning_rate=WarmupCosine(
            peak=config.learning_rate,
            steps=config.epochs * steps_per_epoch,
            warmup_steps=round(config.learning_rate_warmup_epochs * steps_per_epoch),
        ),
        momentum=config.sgd_momentum,
        weight_decay=config.weight_decay,
        variables=model.trainable_variables,
    )
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Under a strategy Keras' "auto" may resolve to XLA on the host and fail there; a TPU
    # compiles the whole step anyway.
    model.compile(optimizer, jit_compile=False, steps_per_execution=config.steps_per_execution)
    model.optimizer.build(model.trainable_variables)


def ordered_batches(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    indices: np.ndarray | None = None,
) -> Any:
    """One un-augmented pass over `source` (or some of it), distributed over the strategy."""
    replicas, rows = strategy.num_replicas_in_sync, replica_batch(config, strategy)
    return strategy.distribute_datasets_from_function(
        lambda context: eval_batches.ordered_batches(
            source,
            image_size=config.image_size,
            batch_size=rows,
            indices=indices,
            input_context=context,
            num_replicas=replicas,
        )
    )


def training_batches(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    first_step: int,
    *,
    seed: int | None = None,
) -> Any:
    """Two views of each image from `first_step` on, distributed over the strategy, for ever.

    Their order and looks follow from `seed`, by default the run's.
    """
    return strategy.distribute_datasets_from_function(
        lambda context: train_batches.training_batches(
            source,
            augmentation=augmentation(config),
            image_size=config.image_size,
            batch_size=config.batch_size,
            seed=config.seed if seed is None else seed,
            first_step=first_step,
            infeed_dtype=config.infeed_dtype,
            input_context=context,
            num_replicas=strategy.num_replicas_in_sync,
        )
    )


def check_sizes(config: Config, source: Source) -> int:
    """Steps of an epoch.

    Raises:
        UserError: if the batch or the queue is larger than the data set.
    """
    readable = len(source.readable)
    if config.batch_size > readable:
        raise UserError(
            f"--batch_size: expected at most the {readable} training images. Received: "
            f"{config.batch_size}; try --batch_size={_power_of_two(readable // 4)} --queue_size=0."
        )
    queue = queue_size(config, source.num_examples)
    if config.framework == "moco" and queue > readable:
        most = readable // config.batch_size * config.batch_size
        raise UserError(
            f"--queue_size: expected at most the {readable} training images, or the queue would "
            f"hold several keys of each. Received: {queue}; try {most}, or 0 to leave the choice."
        )
    return train_batches.steps_per_epoch(source, config.batch_size)


def _power_of_two(number: int) -> int:
    """The largest power of two up to a number, and at least 2."""
    return max(2, 1 << max(number, 1).bit_length() - 1)
