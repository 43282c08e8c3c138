"""`--mode=train`: trains from the last checkpoint to the end."""

import functools
import signal
import statistics
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.errors import Stopped
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.run.pretrained import AUTO_BACKBONE
from ifnd_tf.run.words import counted
from ifnd_tf.stages import build, build_callbacks, build_detection, given_rows, sizes
from ifnd_tf.stages.evaluate import check_protocols
from ifnd_tf.stages.run import Run
from ifnd_tf.training.loop import fit
from ifnd_tf.training.preemption import Interruption
from ifnd_tf.training.step_errors import explained

# Between the seeds before and after a rollback; a prime, so that seeds people choose differ.
_ANOTHER_SEED = 7919
# Most rollbacks with --on_nonfinite=rollback: a loss that diverges again and again is no accident.
_ROLLBACKS = 3


def check_fit(run: Run) -> None:
    """Raises `UserError` if training or evaluation would not fit the data or the devices."""
    _ = run.steps_per_epoch
    sizes.num_clusters(run.config, run.splits.train.num_examples)
    sizes.batch_norm_policy(run.config, run.strategy)
    if "evaluate" in run.config.stages and (run.labelled or run.config.transfer_dataset):
        check_protocols(run)
        _ = run.transfer_splits  # opened now: a mistyped name must not cost a training


def train(run: Run) -> None:
    """Trains to the end of the schedule, from the last checkpoint if there is one."""
    start = time.monotonic()
    check_fit(run)
    model = train_model(run)
    records = run.directory.metrics()
    if not records:
        return
    last, before = records[-1], run.directory.results().get("wall_seconds", 0.0)
    measured = [r for r in run.directory.detection() if "precision" in r]
    pairs = ("precision", "recall", "f1", "chance_precision")
    speeds = [r["images_per_second"] for r in records if r["images_per_second"] is not None]
    run.directory.write_results(
        {
            "epochs": last["epoch"],
            "num_examples": len(run.splits.train.readable),
            **run.unused(run.splits),
            "num_parameters": model.encoder.count_params(),
            "train_loss": last["loss"],
            "random_loss": sizes.loss_at_chance(run.config),
            "train_images_per_second": statistics.median(speeds) if speeds else None,
            "train_seconds": sum(r["epoch_seconds"] for r in records),
            "wall_seconds": before + time.monotonic() - start,
            **{f"detection_{name}": r.get(name) for r in measured[-1:] for name in pairs},
            **{name: value for name, value in last.items() if name.startswith("treatment_")},
        }
    )


def train_model(run: Run) -> ContrastiveModel:
    """Trains from the last checkpoint, or from the start, to the end.

    Raises:
        NonFinite: when a number became NaN or infinite, with the last good checkpoint kept.
        Stopped: after a signal, with all that was done saved.
    """
    config, source, steps = run.config, run.splits.train, run.steps_per_epoch
    given = given_rows.find(run)
    teacher = given["teacher"].points if "teacher" in given else None
    model = run.starting_model(0 if teacher is None else teacher.shape[1])
    detector = build_detection.make_detector(
        config, run.strategy, model, source, run.progress.line, given.get("detect_with")
    )
    pictures = build_callbacks.picture_collector(run, model) if config.report_examples else None
    stateful = build_callbacks.stateful_parts(run, detector, given)
    last = min(config.epochs, config.stop_after_epoch or config.epochs)
    with Interruption(run.progress.line) as interruption:
        saving = build_callbacks.checkpointing(run, model, detector, stateful, interruption)
        first = saving.restore()
        if first >= last * steps:
            run.progress.detail(
                f"training: {first // steps} of {counted(config.epochs, 'epoch')} done already"
            )
            return model
        run.directory.write("data.tsv.gz", source.contents.packed)
        run.directory.claim()
        run.progress.detail(_opening(run, model, first, stateful["detection"].first))
        callbacks = [
            *build_callbacks.training_callbacks(run, model, stateful),
            saving,
            *build_callbacks.chief_callbacks(run, pictures),
        ]
        try:
            stateful["rollbacks"].run(
                functools.partial(_fit, run, model, teacher, callbacks, last),
                first,
                restore=saving.restore,
                most=_ROLLBACKS if config.on_nonfinite == "rollback" else 0,
                report=run.progress.line,
            )
        except tf.errors.OpError as error:
            raise explained(
                error, dataset=config.dataset, batch_size=config.batch_size, source=source
            ) from error
        finally:
            saving.close()
    if saving.stopped or interruption.received is not None:
        # By the signal of another worker, if this one received none.
        raise Stopped(interruption.received or signal.SIGTERM)
    if pictures is not None:
        with run.progress.phase("pictures for the report"):
            pictures(last, final=True)
    return model


def _fit(
    run: Run,
    model: ContrastiveModel,
    teacher: np.ndarray | None,
    callbacks: Sequence[keras.callbacks.Callback],
    last: int,
    first_step: int,
    rollbacks: int,
) -> None:
    """Trains from a step to the end of epoch `last`; other views after each rollback."""
    seed = run.config.seed + _ANOTHER_SEED * rollbacks
    fit(
        model,
        build.training_batches(
            run.config,
            run.strategy,
            run.splits.train,
            first_step,
            seed=seed,
            teacher=teacher,
            report=run.progress.line,
        ),
        steps_per_epoch=run.steps_per_epoch,
        epochs=last,
        first_step=first_step,
        callbacks=callbacks,
    )


def _opening(run: Run, model: ContrastiveModel, first: int, refresh: int | None) -> str:
    """The lines before training: network, data, loss at chance, epoch of the first detection."""
    config, source, steps = run.config, run.splits.train, run.steps_per_epoch
    negatives = sizes.num_negatives(config)
    chance = sizes.loss_at_chance(config)
    lines = [
        f"training {config.framework} with {model.encoder.name} "
        f"({model.encoder.count_params():,} parameters) on "
        f"{counted(len(source.readable), 'image')}, {counted(steps, 'step')} an epoch"
        + (f", from epoch {first // steps + 1}, step {first % steps}" if first else ""),
        f"loss at chance: ln(1 + {counted(negatives, 'negative')}) = {chance:.2f}"
        + ("; the loss first rises while the queue fills" if config.framework == "moco" else ""),
    ]
    if run.decided:
        lines.insert(1, f"{run.decided}, chosen by auto")
    if run.given.init_from == "auto" and not config.init_from:
        lines.append(
            "from scratch; a pretrained encoder would give detection better embeddings from the "
            f"first epoch: --backbone={AUTO_BACKBONE} --init_from=imagenet, see docs/pretrained.md"
        )
    levels = sizes.num_clusters(config, source.num_examples)
    if levels and refresh is not None:
        lines.append(
            f"detection from epoch {refresh + 1}: "
            f"{', '.join(map(str, levels))} clusters"
            + (", chosen by auto" if config.num_clusters.strip() == "auto" else "")
        )
    elif levels and not first:
        lines.append(
            f"note: nothing will be detected, since no epoch after --warmup_epochs="
            f"{config.warmup_epochs} of --epochs={config.epochs} accepts two images"
        )
    if model.pseudo_labels is not None and not model.loss_settings.needs("labels"):
        lines.append(
            f"note: what --detector={config.detector} finds is measured and changes nothing, since "
            f"--treatment={config.treatment} reads no labels; --detector=none saves its time"
        )
    if config.teacher and not config.teacher_weight:
        lines.append(f"note: --teacher={config.teacher} sets no target, since --teacher_weight=0")
    return "\n".join(lines)
