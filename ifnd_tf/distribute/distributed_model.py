"""A Keras model whose `fit` works under every strategy."""

from typing import Any

import keras
import tensorflow as tf


class DistributedModel(keras.Model):
    """A `keras.Model` whose `fit` runs under every strategy.

    Keras 3.15's own train function fails on MultiWorkerMirroredStrategy and, with several
    steps per execution, on MirroredStrategy; and its symbolic build runs `train_step`
    outside any replica. Models here are built by hand, so neither is needed. `train_step` is traced
    without AutoGraph: a branch or loop that depends on a tensor is written as tf.cond or
    tf.while_loop.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        return

    train_function: Any

    def make_train_function(self, force: bool = False):
        if self.train_function is not None and not force:
            return self.train_function
        steps = int(self.steps_per_execution)

        # AutoGraph is for the loop below; a step needs none, and traces faster without.
        @tf.autograph.experimental.do_not_convert
        def one_step(data):
            return self.distribute_strategy.run(self.train_step, args=(data,))

        @tf.function(reduce_retracing=True)
        def train_function(iterator, count=steps):  # fewer in an epoch's last call
            if steps > 1:  # a loop of zero iterations would still trace the step a second time
                for _ in tf.range(count - 1):
                    one_step(next(iterator))
            return tf.nest.map_structure(self._merge, one_step(next(iterator)))

        self.train_function = train_function
        return train_function

    def _merge(self, value):
        strategy = self.distribute_strategy
        if isinstance(strategy, tf.distribute.TPUStrategy):
            # The step reduces its own metrics; a host-side reduction would add a transfer.
            return strategy.experimental_local_results(value)[0]
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
