"""The smallest run that goes through everything: 160 digits, one block of 4 channels."""

import dataclasses
from collections.abc import Callable

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits, open_splits
from ifnd_tf.distribute.strategies import is_chief
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import train as training
from ifnd_tf.stages.run import Run

SETTINGS = {
    "image_size": 8,
    "backbone": "resnet_tiny",
    "width": 4,
    "projection_dim": 8,
    "batch_size": 32,
    "queue_size": 64,
    "num_clusters": "8",  # one level: every number of clusters is traced and compiled by itself
    "epochs": 2,
    "warmup_epochs": 1,
    "acceptance": "constant",
    "acceptance_end": 0.5,
    "batch_norm": "sync",
    "kmeans_iterations": 5,
    "online_knn_epochs": 0,
    "online_knn_examples": 64,
    "report_examples": 0,
    "report_share": 0,
}


def config(**overrides) -> Config:
    """A `Config` of the tiny run."""
    return Config(**{**SETTINGS, **overrides})


def splits(num_train: int = 160) -> Splits:
    """The first digits of each split."""
    train, evaluation = open_splits("digits")
    return Splits(train.subset(range(num_train)), evaluation.subset(range(64)))


class AtStep(Progress):
    """A silent terminal that calls `happen` once so many training steps are done."""

    def __init__(self, step: int, happen: Callable[[], object]):
        super().__init__(enabled=False)
        self._left, self._happen = step, happen

    def status(self, text: str, *, force: bool = False) -> None:
        if "  training" in text:  # of a step
            self._left -= 1
            if not self._left:
                self._happen()


def train(
    config: Config, strategy, path, data: Splits | None = None, progress: Progress | None = None
):
    """Trains to the end; returns the model and the run directory."""
    found = run(dataclasses.replace(config, workdir=str(path)), strategy, progress)
    found.splits = data or splits()
    _ = found.config  # settled in its own directory
    # A directory that may continue with other flags.
    found.directory = RunDirectory(str(path), flags={}, writer=is_chief(strategy))
    return training.train_model(found), found.directory


def run(config: Config, strategy, progress: Progress | None = None) -> Run:
    """A `Run`, by default one that prints nothing."""
    return Run(config, strategy, progress or Progress(enabled=False))
