"""Builds the callbacks of training, and the collector of the report's pictures."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.data.contents import same_data
from ifnd_tf.data.embedding_file import Rows
from ifnd_tf.data.source import Source
from ifnd_tf.detection.detectors import Detector
from ifnd_tf.distribute.strategies import is_chief, num_input_pipelines, workers
from ifnd_tf.evaluation.embed import Embedder, Embeddings, labelled
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report import run_page
from ifnd_tf.report.collect_pictures import PictureCollector, thumbnails
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.stages import build, build_detection
from ifnd_tf.stages.given_rows import same_rows
from ifnd_tf.stages.run import Run
from ifnd_tf.training.callbacks import trackers
from ifnd_tf.training.callbacks.checkpointing import Checkpointing
from ifnd_tf.training.callbacks.epoch_records import EpochRecords
from ifnd_tf.training.callbacks.health import Health
from ifnd_tf.training.callbacks.histograms import DetectionHistograms
from ifnd_tf.training.callbacks.learned_labels import LearnedLabels
from ifnd_tf.training.callbacks.live_report import LiveReport
from ifnd_tf.training.callbacks.lost_images import LostImages
from ifnd_tf.training.callbacks.nonfinite import StopAtNonFinite
from ifnd_tf.training.callbacks.online_knn import OnlineKNN
from ifnd_tf.training.callbacks.save_policy import SavePolicy
from ifnd_tf.training.callbacks.terminal import Terminal
from ifnd_tf.training.preemption import Interruption
from ifnd_tf.training.rollback import Rollbacks


def stateful_parts(run: Run, detector: Detector, given: Mapping[str, Rows]) -> dict[str, Any]:
    """The objects whose state is saved besides variables, by its name in checkpoints."""
    config, directory, progress = run.config, run.directory, run.progress
    return {
        "detection": build_detection.make_callback(
            config, detector, run.splits.train.labels, progress=progress, run=directory
        ),
        "health": Health(epochs=config.epochs, progress=progress, directory=directory),
        "records": EpochRecords(
            directory, progress, steps_per_epoch=run.steps_per_epoch, epochs=config.epochs
        ),
        "rollbacks": Rollbacks(),
        "data": same_data(config.dataset, run.splits.train.contents),
        **{flag: same_rows(flag, rows) for flag, rows in given.items()},
    }


def training_callbacks(
    run: Run, model: ContrastiveModel, stateful: Mapping[str, Any]
) -> list[keras.callbacks.Callback]:
    """The callbacks of all workers, without checkpointing."""
    config, source, steps = run.config, run.splits.train, run.steps_per_epoch
    return [
        StopAtNonFinite(),
        LostImages(
            source,
            [bad for each in run.splits if each is not None for bad in each.unreadable],
            max_share=config.max_corrupt_share,
            directory=run.directory,
            progress=run.progress,
        ),
        stateful["detection"],
        LearnedLabels(source, run.directory),
        *_online_knn(run, model),
        stateful["health"],
        Terminal(
            run.progress, batch_size=config.batch_size, steps_per_epoch=steps, epochs=config.epochs
        ),
        stateful["records"],
    ]


def _online_knn(run: Run, model: ContrastiveModel) -> list[keras.callbacks.Callback]:
    config, (train, evaluation) = run.config, run.splits
    if not config.online_knn_epochs or evaluation is None or not run.labelled:
        return []
    rng = np.random.default_rng(config.seed)
    few = np.sort(rng.permutation(train.readable)[: config.online_knn_examples]).astype(np.int32)
    embedder = Embedder(model.network.inference, run.strategy)

    def features(source: Source, indices: np.ndarray | None = None) -> Embeddings:
        batches = build.ordered_batches(config, run.strategy, source, indices)
        return labelled(embedder(batches, source.num_examples))

    def evaluate() -> Iterator[tuple[str, float]]:
        memory, queries = features(train, few), features(evaluation)
        return weighted_knn(
            memory, queries, neighbors=config.knn_neighbors, temperature=config.knn_temperature
        )

    return [
        OnlineKNN(
            evaluate, every=config.online_knn_epochs, epochs=config.epochs, progress=run.progress
        )
    ]


def checkpointing(
    run: Run,
    model: ContrastiveModel,
    detector: Detector,
    stateful: Mapping[str, Any],
    interruption: Interruption,
) -> Checkpointing:
    """Saves model, optimiser, detector and the states of `stateful`."""
    config = run.config
    # Of dropout in Keras' or KerasHub's networks. Like metrics, no part of a checkpointed model.
    seeds = [v.value for v in model.variables if v.name == "seed_generator_state"]
    with run.strategy.scope():
        return Checkpointing(
            CheckpointStore(run.directory.file("checkpoints")),
            SavePolicy(minutes=config.checkpoint_minutes, steps=config.checkpoint_steps),
            steps_per_epoch=run.steps_per_epoch,
            keep=config.keep_checkpoints,
            interruption=interruption,
            workers=workers(run.strategy),
            report=run.progress.line,
            writer=is_chief(run.strategy),
            states=stateful,
            model=model,
            optimizer=model.optimizer,
            detector=detector,
            metrics=[v.value for metric in model.metrics for v in metric.variables],
            **({"seeds": seeds} if seeds else {}),
        )


def picture_collector(run: Run, model: ContrastiveModel) -> PictureCollector:
    """A collector that embeds training images with the query network, the one that is exported."""
    config, source = run.config, run.splits.train

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding = model.network.inference(images)["embedding"]
        return {"embedding": embedding, "thumbnail": thumbnails(images)}

    embedder = Embedder(outputs, run.strategy)

    def embed(indices: np.ndarray) -> dict[str, Any]:
        batches = build.ordered_batches(config, run.strategy, source.subset(indices))
        return embedder(batches, len(indices), run.progress.counter("pictures for the report"))

    return PictureCollector(
        source,
        embed,
        run.directory,
        examples=config.report_examples,
        seed=config.seed,
        steps_per_epoch=run.steps_per_epoch,
        several_workers=num_input_pipelines(run.strategy) > 1,
    )


def chief_callbacks(run: Run, pictures: PictureCollector | None) -> list[keras.callbacks.Callback]:
    """TensorBoard histograms, trackers and the live report, on the chief only."""
    config = run.config
    if not run.directory.writer:
        return []
    callbacks: list[keras.callbacks.Callback] = [
        DetectionHistograms(run.directory, steps_per_epoch=run.steps_per_epoch)
    ]
    settings = dataclasses.asdict(config)
    if config.wandb:
        callbacks.append(trackers.wandb(config.name, settings, run.directory.path))
    if config.mlflow:
        callbacks.append(trackers.mlflow(config.name, settings))
    # Workers spend their time differently, so they would not agree on when to embed together.
    if config.report_share and num_input_pipelines(run.strategy) == 1:
        refresh = functools.partial(_refresh_report, run, pictures)
        callbacks.append(LiveReport(refresh, share=config.report_share, progress=run.progress))
    return callbacks


def _refresh_report(run: Run, pictures: PictureCollector | None, epochs: int) -> None:
    with run.progress.phase("report"):
        if pictures is not None:
            pictures(epochs, final=False)
        run_page.write(run.directory.path)
