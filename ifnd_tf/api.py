"""A whole run as one call, for programs and notebooks: what main.py does, without flags."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.distribute import strategies
from ifnd_tf.errors import UserError, did_you_mean
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages.modes import run_stages
from ifnd_tf.stages.run import Run


class Pretrained(NamedTuple):
    """What `pretrain` returns.

    Attributes:
        encoder: normalised images float32 `[b, S, S, 3]` -> features `[b, F]`.
        projector: features `[b, F]` -> `[b, D]`, not normalised.
        results: what results.json holds, name to value.
        path: the run directory, with SavedModel, report and checkpoints.
    """

    encoder: keras.Model
    projector: keras.Model
    results: dict[str, Any]
    path: str


def pretrain(
    dataset: str,
    workdir: str,
    *,
    mode: Sequence[str] = ("train", "evaluate", "export", "report"),
    strategy: tf.distribute.Strategy | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Pretrained:
    """Trains, evaluates and exports an encoder, or goes on with a run that was stopped.

    Example:
        ```python
        import ifnd_tf

        trained = ifnd_tf.pretrain("folder:photos", "runs/photos", image_size="auto", stem="auto",
                                   queue_size="auto", num_clusters="auto",
                                   batch_size=64, augmentation="moco_v2")
        ```

    Args:
        dataset: digits | folder:PATH | list:FILE | tfds:NAME[/CONFIG].
        workdir: run directory, local or gs://.
        mode: the stages to run, in order.
        strategy: where to compute; None: chosen as `--strategy=auto` does.
        verbose: whether to print progress.
        **settings: any flag of main.py by name; its unit, range and default are in
            `python main.py --help`. The defaults are those of the digits.

    Returns:
        `Pretrained`.

    Raises:
        UserError: for wrong input, with what to change, on one line.
    """
    known = [field.name for field in dataclasses.fields(Config)]
    for name in settings:
        if name not in known:
            raise UserError(f"{name}: no such setting.{did_you_mean(name, known)}")
    config = Config(dataset=dataset, workdir=workdir, mode=",".join(mode), **settings)
    if strategy is None:
        strategy = strategies.make_strategy(
            config.strategy, tpu=config.tpu, worker_timeout_seconds=config.worker_timeout_seconds
        )
    run = Run(config, strategy, None if verbose else Progress(enabled=False))
    run_stages(run)
    model = run.trained_model()
    return Pretrained(model.encoder, model.projector, run.directory.results(), run.directory.path)
