"""Builds the strategy of a run from its `Config`."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.distribute import strategies


def strategy(config: Config) -> tf.distribute.Strategy:
    """The strategy of `--strategy`, ready, on workers that were all given the same flags.

    Raises:
        UserError: as `make_strategy` and `check_same_settings`.
    """
    made = strategies.make_strategy(
        config.strategy,
        tpu=config.tpu,
        deterministic=config.deterministic,
        threads=config.threads,
        worker_timeout_seconds=config.worker_timeout_seconds,
    )
    strategies.check_same_settings(made, dataclasses.asdict(config))
    return made
