"""The Python interface: a whole run as one call, for programs and notebooks."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ifnd_tf.command_line import parse_flagfile
from ifnd_tf.config import Config, flagfile, kept
from ifnd_tf.errors import UserError, did_you_mean
from ifnd_tf.run.progress import Progress
from ifnd_tf.run.records import RunReader
from ifnd_tf.stages import build_strategy
from ifnd_tf.stages.modes import run_stages
from ifnd_tf.stages.run import Run


class Pretrained(NamedTuple):
    """The result of `pretrain`.

    Attributes:
        encoder: normalised images float32 `[b, S, S, 3]` -> features `[b, F]`.
        projector: features `[b, F]` -> `[b, D]`, not normalised.
        results: the content of results.json, name to value.
        path: the run directory, with SavedModel, report and checkpoints.
    """

    encoder: keras.Model
    projector: keras.Model
    results: dict[str, Any]
    path: str


def pretrain(
    dataset: str,
    workdir: str | os.PathLike[str],
    *,
    preset: str = "",
    mode: Sequence[str] = ("train", "evaluate", "export", "report"),
    strategy: tf.distribute.Strategy | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Pretrained:
    """Trains, evaluates and exports an encoder, or continues a run that was stopped.

    Example:
        ```python
        import ifnd_tf

        trained = ifnd_tf.pretrain("folder:photos", "runs/photos", preset="photos")
        ```

    Args:
        dataset: digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG] | parquet:GLOB.
        workdir: run directory, local or gs://.
        preset: an experiment whose settings are the defaults, as `--preset=`: "photos" for images
            of your own; empty: the defaults of the digits.
        mode: the stages to run, in order; also as text, "train,export".
        strategy: where to compute; None: as the setting `strategy` says, by default auto.
        verbose: whether to print progress.
        **settings: any flag of the command by name; its unit, range and default are in
            `ifnd --help`. `deterministic` has no effect here, since it would change the whole
            process: call `tf.config.experimental.enable_op_determinism()` instead.

    Returns:
        `Pretrained`.

    Raises:
        UserError: for wrong input, with what to change, on one line.
    """
    run = _run(dataset, workdir, preset, mode, strategy, verbose, settings)
    model = run.trained_model()
    return Pretrained(model.encoder, model.projector, run.directory.results(), run.directory.path)


def embed(
    workdir: str | os.PathLike[str],
    dataset: str = "",
    *,
    strategy: tf.distribute.Strategy | None = None,
    verbose: bool = True,
) -> dict[str, np.ndarray]:
    """Features of all images of a run, or of other images, by its trained encoder.

    Args:
        workdir: directory of a trained run; its settings are taken from there.
        dataset: images to embed, spelt as for `pretrain`; empty: those of the run.
        strategy: as for `pretrain`.
        verbose: as for `pretrain`.

    Returns:
        What `--mode=embed` writes to embeddings.npz, by column: path, split, label, features
        float32 `[N, F]`, embedding float32 `[N, D]` of unit length, and more.

    Raises:
        UserError: if there is no trained run, or the images cannot be read.
    """
    workdir = os.fspath(workdir)
    before = RunReader(workdir).flags()
    if not before:
        raise UserError(
            f"workdir: expected the directory of a run. Received: {workdir!r}; train one by "
            "pretrain first, or correct the path."
        )
    changed = {"workdir": workdir, "mode": "embed", "embed_dataset": dataset, "embed_format": "npz"}
    run = _completed(Config().override({**kept(before), **changed}), strategy, verbose)
    path = run.directory.file("embeddings", "embeddings.npz")
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as table:
        return dict(table)


def _run(
    dataset: str,
    workdir: str | os.PathLike[str],
    preset: str,
    mode: Sequence[str],
    strategy: tf.distribute.Strategy | None,
    verbose: bool,
    settings: dict[str, Any],
) -> Run:
    known = [field.name for field in dataclasses.fields(Config)]
    for name in settings:
        if name not in known:
            raise UserError(f"{name}: no such setting.{did_you_mean(name, known)}")
    stages = mode if isinstance(mode, str) else ",".join(mode)
    config = parse_flagfile(str(flagfile.preset_path(preset))) if preset else Config()
    config = dataclasses.replace(
        config, dataset=dataset, workdir=os.fspath(workdir), mode=stages, **settings
    )
    return _completed(config, strategy, verbose)


def _completed(config: Config, strategy: tf.distribute.Strategy | None, verbose: bool) -> Run:
    """A run whose stages are done."""
    # Determinism is the caller's choice: it holds for the whole process.
    strategy = strategy or build_strategy.strategy(dataclasses.replace(config, deterministic=False))
    run = Run(config, strategy, None if verbose else Progress(enabled=False))
    run_stages(run)
    return run
