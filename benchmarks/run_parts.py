"""The parts of a run of main.py, from its flags, for benchmarks that time some of them."""

import os
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

import main as entry
from ifnd_tf.config import Config
from ifnd_tf.data.source import Source
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.stages import build, open_data, sizes


class RunParts(NamedTuple):
    """The parts of a run of `main.py`: settings, images, model, on one device."""

    config: Config
    strategy: tf.distribute.Strategy
    source: Source
    model: ContrastiveModel

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return sizes.steps_per_epoch(self.config, self.source)

    def batches(self) -> Any:
        """Training batches without end, as an iterator."""
        return iter(build.training_batches(self.config, self.strategy, self.source, 0))


def parts(*flags: str) -> RunParts:
    """The parts for the command line `main.py FLAGS`."""
    config = entry.parse(list(flags))
    assert config is not None
    strategy = tf.distribute.get_strategy()
    config, splits = open_data.decoded(config, strategy)
    model = build.model(config, strategy, num_examples=splits.train.num_examples)
    return RunParts(config, strategy, splits.train, model)
