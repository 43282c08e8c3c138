"""Fits a run from its last checkpoint to its end, and restores what it made."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.distribute.strategies import any_worker, is_chief, num_input_pipelines
from ifnd_tf.errors import Stopped
from ifnd_tf.evaluation import collapse
from ifnd_tf.evaluation.embed import Embedder, Embeddings, labelled
from ifnd_tf.evaluation.knn import weighted_knn
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.report import run_page
from ifnd_tf.run.checkpoints import CheckpointStore
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, build_detection
from ifnd_tf.stages.gather_pictures import Gatherer
from ifnd_tf.training.callbacks import trackers
from ifnd_tf.training.callbacks.checkpointing import Checkpointing
from ifnd_tf.training.callbacks.epoch_records import Records
from ifnd_tf.training.callbacks.health import Health
from ifnd_tf.training.callbacks.histograms import DetectionHistograms
from ifnd_tf.training.callbacks.live_report import LiveReport
from ifnd_tf.training.callbacks.lost_images import LostImages
from ifnd_tf.training.callbacks.nonfinite import StopAtNonFinite
from ifnd_tf.training.callbacks.online_knn import OnlineKNN
from ifnd_tf.training.callbacks.terminal import Terminal
from ifnd_tf.training.loop import fit
from ifnd_tf.training.preemption import Interruption
from ifnd_tf.training.rollback import Rollbacks
from ifnd_tf.training.step_errors import explained

# Between the seeds before and after a rollback; a prime, so that seeds people choose differ.
_ANOTHER_SEED = 7919


def restore(run: RunDirectory, model: ContrastiveModel) -> bool:
    """Puts the last checkpoint's weights into `model`; False if there is no checkpoint."""
    store = CheckpointStore(run.file("checkpoints"))
    latest = store.latest()
    if latest is None:
        return False
    # The optimiser's and the detector's part of the checkpoint is not wanted here.
    tf.train.Checkpoint(model=model).read(store.prefix(latest)).expect_partial()
    return True


def train(
    config: Config,
    strategy: tf.distribute.Strategy,
    splits: Splits,
    run: RunDirectory,
    progress: Progress,
) -> ContrastiveModel:
    """Trains from the last checkpoint, or from the start, to the end.

    Raises:
        NonFinite: when a number became NaN or infinite, with the last good checkpoint kept.
        Stopped: after a signal, with all that was done saved.
    """
    source = splits.train
    steps = build.check_sizes(config, source)
    model = build.build(config, strategy, num_examples=source.num_examples, steps_per_epoch=steps)
    detector = build_detection.make_detector(config, strategy, model, source, progress.line)
    length = {"steps_per_epoch": steps, "epochs": config.epochs}
    detection = build_detection.make_callback(
        config, detector, source.labels, progress=progress, run=run
    )
    watch = Health(
        functools.partial(collapse.health, seed=config.seed),
        collapse.stalled,
        epochs=config.epochs,
        progress=progress,
        run=run,
    )
    records = Records(run, progress, **length)
    gather = (
        Gatherer(config, strategy, source, model, run, steps_per_epoch=steps)
        if config.report_examples
        else None
    )
    rollbacks = Rollbacks()
    callbacks: list[keras.callbacks.Callback] = [
        StopAtNonFinite(),
        LostImages(
            source.lost,
            [bad for each in splits if each is not None for bad in each.unreadable],
            num_examples=source.num_examples,
            max_share=config.max_corrupt_share,
            run=run,
            progress=progress,
        ),
        detection,
        *_online_knn(config, strategy, model, splits, progress),
        watch,
        Terminal(progress, batch_size=config.batch_size, **length),
        records,
    ]
    with Interruption(progress.line) as interruption:
        with strategy.scope():
            saving = Checkpointing(
                CheckpointStore(run.file("checkpoints")),
                steps_per_epoch=steps,
                share=config.checkpoint_share,
                minutes=config.checkpoint_minutes,
                steps=config.checkpoint_steps,
                keep=config.keep_checkpoints,
                keep_every_epochs=config.keep_every_epochs,
                interruption=interruption,
                agree=any_worker(strategy),
                report=progress.line,
                writer=is_chief(strategy),
                remembered={
                    "detection": detection,
                    "health": watch,
                    "records": records,
                    "rollbacks": rollbacks,
                },
                model=model,
                optimizer=model.optimizer,
                detector=detector,
                # Keras' metrics are no part of a checkpointed model.
                metrics=[v.value for metric in model.metrics for v in metric.variables],
            )
        first = saving.restore()
        last = min(config.epochs, config.stop_after_epoch or config.epochs)
        if first >= last * steps:
            progress.detail(f"training: {first // steps} of {config.epochs} epochs done already")
            return model
        run.claim()
        progress.detail(_opening(config, model, source, steps, first))

        def go_on(first: int) -> None:
            seed = config.seed + _ANOTHER_SEED * rollbacks.count
            fit(
                model,
                build.training_batches(config, strategy, source, first, seed=seed),
                steps_per_epoch=steps,
                epochs=last,
                first_step=first,
                callbacks=[
                    *callbacks,
                    saving,
                    *_watching(config, strategy, steps, gather, run, progress),
                ],
            )

        most = config.nonfinite_retries if config.on_nonfinite == "rollback" else 0
        try:
            rollbacks.run(go_on, first, restore=saving.restore, most=most, report=progress.line)
        except tf.errors.OpError as error:
            raise explained(
                error, dataset=config.dataset, batch_size=config.batch_size, source=source
            ) from error
        finally:
            saving.close()
    if interruption.received is not None:
        raise Stopped(interruption.received)
    if gather is not None:
        with progress.phase("pictures for the report"):
            gather(last, final=True)
    return model


def _watching(
    config: Config,
    strategy: tf.distribute.Strategy,
    steps: int,
    gather: Gatherer | None,
    run: RunDirectory,
    progress: Progress,
) -> list[keras.callbacks.Callback]:
    """What shows the run elsewhere than on the terminal; the chief's business alone."""
    if not run.writer:
        return []
    callbacks: list[keras.callbacks.Callback] = [DetectionHistograms(run, steps_per_epoch=steps)]
    settings = dataclasses.asdict(config)
    logs: list[trackers.Tracker] = []
    if config.wandb:
        logs.append(trackers.WandB(config.experiment, settings, run.path))
    if config.mlflow:
        logs.append(trackers.MLflow(config.experiment, settings))
    if logs:
        callbacks.append(trackers.Tracking(logs))
    # Workers spend their time differently, so they would not agree on when to embed together.
    if config.report_share and num_input_pipelines(strategy) == 1:

        def refresh(epochs: int) -> None:
            with progress.phase("report"):
                if gather is not None:
                    gather(epochs, final=False)
                run_page.write(run.path)

        callbacks.append(LiveReport(refresh, share=config.report_share, progress=progress))
    return callbacks


def random_loss(config: Config, num_examples: int) -> float:
    """The loss in nats of an encoder that tells nothing apart: ln(1 + negatives)."""
    return math.log(1 + _negatives(config, num_examples))


def _negatives(config: Config, num_examples: int) -> int:
    if config.framework == "moco":
        return build.queue_size(config, num_examples)
    return 2 * config.batch_size - 2


def _opening(
    config: Config, model: ContrastiveModel, source: Source, steps: int, first: int
) -> str:
    """Says what is about to happen, and what loss a model that knows nothing has."""
    lines = [
        f"training {config.framework} with {model.encoder.name} "
        f"({model.encoder.count_params():,} parameters) on {len(source.readable):,} images, "
        f"{steps} steps an epoch"
        + (f", from epoch {first // steps + 1}, step {first % steps}" if first else ""),
        f"random level of the loss: ln(1 + {_negatives(config, source.num_examples):,} negatives)"
        f" = {random_loss(config, source.num_examples):.2f}"
        + (
            "; it rises towards that while the queue fills, then falls"
            if config.framework == "moco"
            else ""
        ),
    ]
    levels = build.num_clusters(config, source.num_examples)
    if levels:
        lines.append(
            f"detection from epoch {config.warmup_epochs + 1}: "
            f"{', '.join(map(str, levels))} clusters"
            + (", picked by auto" if config.num_clusters.strip() == "auto" else "")
        )
    return "\n".join(lines)


def _online_knn(
    config: Config,
    strategy: tf.distribute.Strategy,
    model: ContrastiveModel,
    splits: Splits,
    progress: Progress,
) -> list[keras.callbacks.Callback]:
    train, evaluation = splits
    if not config.online_knn_epochs or evaluation is None or not splits_are_labelled(splits):
        return []
    rng = np.random.default_rng(config.seed)
    few = np.sort(rng.permutation(train.readable)[: config.online_knn_examples]).astype(np.int32)
    embedder = Embedder(model.network.inference, strategy)

    def features(source: Source, indices: np.ndarray | None = None) -> Embeddings:
        batches = build.ordered_batches(config, strategy, source, indices)
        return labelled(embedder(batches, source.num_examples))

    def evaluate() -> Iterator[tuple[str, float]]:
        memory, queries = features(train, few), features(evaluation)
        return weighted_knn(
            memory, queries, neighbors=config.knn_neighbors, temperature=config.knn_temperature
        )

    return [
        OnlineKNN(evaluate, every=config.online_knn_epochs, epochs=config.epochs, progress=progress)
    ]


def splits_are_labelled(splits: Splits) -> bool:
    """Whether there are labelled images to train a classifier on, and others to test it."""
    train, evaluation = splits
    if evaluation is None:
        return False
    return bool(np.any(train.labels >= 0) and np.any(evaluation.labels >= 0))
