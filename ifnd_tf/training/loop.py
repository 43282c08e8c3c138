"""Keras' `fit` for runs that may start, and stop, within an epoch."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ifnd_tf.distribute.distributed_model import DistributedModel


def fit(
    model: DistributedModel,
    batches: Iterable[Any],
    *,
    steps_per_epoch: int,
    epochs: int,
    first_step: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains from `first_step` to the end of `epochs`, with Keras callbacks.

    Differs from `keras.Model.fit` in three ways: an epoch that was stopped in its middle
    resumes there, with the metrics' sums of its first part and without a second
    `on_epoch_begin`; an epoch that stops in its middle has no `on_epoch_end`; and the last call
    of `steps_per_execution` steps is cut to the epoch's length.

    Args:
        model: compiled.
        batches: endless; the first is that of `first_step`.
        steps_per_epoch: steps of an epoch.
        epochs: the epoch to stop after, counted from the run's start.
        first_step: steps that are done already.
        callbacks: as for `keras.Model.fit`; their `params` hold `first_step` besides.
    """
    called = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=epochs, steps=steps_per_epoch, first_step=first_step
    )
    per_call = int(model.steps_per_execution)
    train, iterator = model.make_train_function(), iter(batches)
    model.stop_training = False
    called.on_train_begin()
    epoch, done = divmod(first_step, steps_per_epoch)
    logs: dict[str, Any] = {}
    while epoch < epochs and not model.stop_training:
        if not done:
            model.reset_metrics()
            called.on_epoch_begin(epoch)
        while done < steps_per_epoch and not model.stop_training:
            steps = min(per_call, steps_per_epoch - done)
            called.on_train_batch_begin(done)
            logs = train(iterator, tf.constant(steps))
            done += steps
            called.on_train_batch_end(done - 1, logs)
        if done == steps_per_epoch:
            logs = dict(model.get_metrics_result())
            called.on_epoch_end(epoch, logs)
            epoch, done = epoch + 1, 0
    called.on_train_end(logs)
