"""The smallest run that goes through everything: 160 digits, one block of 4 channels."""

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
    "num_clusters": "4,8",
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


def train(config: Config, strategy, path, data: Splits | None = None):
    """Trains to the end; returns the model and the run directory."""
    run = RunDirectory(str(path), flags={}, writer=is_chief(strategy))
    quiet = Progress(enabled=False)
    model = training.train(config, strategy, data or splits(), run, quiet)
    return model, run


def run(config: Config, strategy) -> Run:
    """A `stages.Run` that prints nothing."""
    return Run(config, strategy, Progress(enabled=False))
