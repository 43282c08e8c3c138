"""Builds data, augmentation and model of a run from its `Config`."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.config.data import BACKGROUNDS
from ifnd_tf.data import datasets, eval_batches, photometric, recipes, train_batches
from ifnd_tf.data.decode import Decoding
from ifnd_tf.data.service_reader import DataService
from ifnd_tf.data.source import Source
from ifnd_tf.models import backbones, optimizers, treatments
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.models.loss import LossSettings
from ifnd_tf.models.memory_bank import MemoryBank
from ifnd_tf.models.moco import MoCo
from ifnd_tf.models.network import Network, dtype_policy, projector
from ifnd_tf.models.simclr import SimCLR
from ifnd_tf.stages import build_teacher, sizes
from ifnd_tf.training.learning_rate import WarmupCosine, encoder_rate


def open_splits(config: Config, **options: Any) -> datasets.Splits:
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
        decoding=decoding(config),
        workdir=config.run_path,
        **options,
    )


def decoding(config: Config) -> Decoding:
    """How the run's encoded images become pixels."""
    return Decoding(
        background=BACKGROUNDS[config.background],
        sixteen_bits=config.sixteen_bits,
        max_pixels=round(config.max_megapixels * 1e6),
        margin=config.decode_margin,
    )


def augmentation(config: Config) -> recipes.Augmentation:
    """The recipe with the flags' overrides."""
    return recipes.recipe(
        config.augmentation,
        **{name: getattr(config, name) for name in recipes.Augmentation._fields},
    )


def training_batches(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    first_step: int,
    *,
    seed: int | None = None,
    teacher: np.ndarray | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Any:
    """Two views of each image from `first_step` on, without end, distributed over the strategy.

    Order and views follow from `seed` (None: the run's); see also `with_rows` and `DataService`.
    """

    def read(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = train_batches.training_batches(
            source,
            augmentation=augmentation(config),
            image_size=config.image_size,
            batch_size=config.batch_size,
            seed=config.seed if seed is None else seed,
            first_step=first_step,
            infeed_dtype=config.infeed_dtype,
            weak_keys=treatments.weak_keys(config.treatment),
            input_context=context,
            data_service=DataService(config.data_service, config.worker_timeout_seconds, report),
        )
        return build_teacher.with_rows(batches, teacher)

    return strategy.distribute_datasets_from_function(read)


def ordered_batches(
    config: Config,
    strategy: tf.distribute.Strategy,
    source: Source,
    indices: np.ndarray | None = None,
    image_size: int = 0,
) -> Any:
    """One pass over `source`, or `indices` of it, un-augmented; `image_size` 0 is the run's."""
    return strategy.distribute_datasets_from_function(
        lambda context: eval_batches.ordered_batches(
            source,
            image_size=image_size or config.image_size,
            batch_size=sizes.replica_batch(config, strategy),
            indices=indices,
            input_context=context,
        )
    )


def model(
    config: Config,
    strategy: tf.distribute.Strategy,
    *,
    num_examples: int,
    steps_per_epoch: int = 1,
    true_labels: np.ndarray | None = None,
    start: Callable[[Network], None] | None = None,
    teacher_width: int = 0,
) -> ContrastiveModel:
    """A compiled model with fresh weights, a function of the seed.

    Args:
        config: the run's settings.
        strategy: where its variables live.
        num_examples: N, the size of the training index space.
        steps_per_epoch: for the learning rate's schedule, and the treatments'.
        true_labels: int [N], -1 unknown; only measure what the treatments detect.
        start: gives the fresh network its first weights, see `initial_weights`; None: it keeps
            its random ones.
        teacher_width: W of the teacher's rows, to be trained with them; 0: without.
    """
    keras.utils.set_random_seed(config.seed)
    with dtype_policy(config.precision), strategy.scope():
        built = _contrastive(config, strategy, num_examples, steps_per_epoch, start, teacher_width)
        optimizer = _optimizer(config, built.trainable_variables, steps_per_epoch)
        # Under a strategy Keras' "auto" may resolve to XLA on the host and fail there; a TPU
        # compiles the whole step anyway.
        built.compile(optimizer, jit_compile=False, steps_per_execution=config.steps_per_execution)
        optimizer.build(built.trainable_variables)
        if true_labels is not None and built.true_labels is not None:
            built.true_labels.assign(true_labels)
    return built


def _contrastive(
    config: Config,
    strategy: tf.distribute.Strategy,
    num_examples: int,
    steps_per_epoch: int,
    start: Callable[[Network], None] | None,
    teacher_width: int,
) -> ContrastiveModel:
    policy, splits = sizes.batch_norm_policy(config, strategy)
    query = network(config, policy, splits)
    if start is not None:  # before the key network copies it
        start(query)
    framework: Callable[..., ContrastiveModel]
    if config.framework == "moco":
        framework = functools.partial(
            MoCo,
            key_network=network(config, policy, splits),
            queue_size=config.queue_size,
            key_momentum=config.key_momentum,
            batch_norm=policy,
            batch_norm_splits=splits,
        )
    else:
        framework = functools.partial(SimCLR, batch_size=config.batch_size)
    augment = memory = None
    if config.infeed_dtype == "uint8":
        augment = functools.partial(photometric.augment, augmentation=augmentation(config))
    embeds = sizes.num_clusters(config, num_examples) or config.detector == "neighbours"
    if embeds and config.detect_with == "keys":
        memory = MemoryBank(
            strategy,
            num_examples=num_examples,
            width=clustered_width(config, query),
            momentum=config.keys_momentum,
            features=config.cluster_on == "features",
        )
    return framework(
        query,
        num_examples=num_examples,
        num_levels=sizes.num_levels(config, num_examples),
        photometric=augment,
        loss=LossSettings(
            config.temperature,
            treatments.rules(config.treatment),
            config.rescale_negatives,
            config.level_combination,
            steps_per_epoch,
            config.epochs,
            build_teacher.settings(config, teacher_width),
        ),
        memory=memory,
        encoder_rate=_encoder_rate(config, steps_per_epoch),
    )


def _encoder_rate(config: Config, steps_per_epoch: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
    scale, frozen = config.encoder_learning_rate_scale, config.freeze_epochs
    if scale == 1 and not frozen:
        return None
    return functools.partial(encoder_rate, scale=scale, frozen_steps=frozen * steps_per_epoch)


def network(config: Config, batch_norm: str = "local", batch_norm_splits: int = 1) -> Network:
    """An encoder and its projector, with fresh weights."""
    encoder = backbones.build(
        config.backbone,
        image_size=config.image_size,
        stem=config.stem,
        depth=config.depth,
        width=config.width,
        batch_norm=batch_norm,
        batch_norm_splits=batch_norm_splits,
    )
    width = encoder.output_shape[-1]
    return Network(encoder, projector(width, config.hidden_dim, config.projection_dim))


def _optimizer(
    config: Config, variables: list[keras.Variable], steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    optimizer = optimizers.make(
        config.optimizer,
        variables,
        learning_rate=WarmupCosine(
            peak=config.learning_rate,
            steps=config.epochs * steps_per_epoch,
            warmup_steps=round(config.learning_rate_warmup_epochs * steps_per_epoch),
        ),
        momentum=config.sgd_momentum,
        weight_decay=config.weight_decay,
    )
    mixed = config.precision == "mixed_float16"
    return keras.optimizers.LossScaleOptimizer(optimizer) if mixed else optimizer


def clustered_width(config: Config, network: Network) -> int:
    """D of the embeddings to cluster."""
    clustered = network.encoder if config.cluster_on == "features" else network.projector
    return clustered.output_shape[-1]
