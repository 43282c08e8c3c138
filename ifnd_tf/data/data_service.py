"""Training batches that a tf.data service makes on other machines, in this machine's order.

A service hands its elements out in any order, and loses those that a lost worker was making. So
each batch carries its number, and waits here for its turn; one that does not come is made here.
Each is a function of its number: a run is the same with the service, without it, and resumed.
"""

from collections.abc import Callable

import tensorflow as tf

from ifnd_tf.data.service_reader import Batch, DataService, ServiceReader

# Batches that a worker of the service makes at a time: the next one fills the pause of the last.
_MADE_AT_A_TIME = 2


def made_elsewhere(
    service: DataService,
    remote: Callable[[tf.Tensor], tf.data.Dataset],
    own: Callable[[tf.Tensor], tf.data.Dataset],
    *,
    first: int,
    most_early: int,
) -> tf.data.Dataset:
    """The elements of `own(first)`, made by the service, as dicts of tensors.

    Args:
        service: where.
        remote: the element of a number, as a data set of one, by operations without Python; a
            -1 in its "index" says that it could not be made.
        own: the elements from a number on, made on this machine.
        first: number of the first.
        most_early: batches that may wait for an earlier one before that one is made here.

    Raises:
        UserError: if the service does not answer in time.
    """
    reader = ServiceReader(service, _served(service, remote), own, first, most_early)
    spec = reader.element_spec

    def take(number: tf.Tensor) -> list[tf.Tensor]:
        batch = reader.take(int(number))
        return [batch[name] for name in spec]

    def element(number: tf.Tensor) -> Batch:
        found = tf.py_function(take, [number], [each.dtype for each in spec.values()])
        return {
            name: tf.ensure_shape(value, spec[name].shape)
            for name, value in zip(spec, found, strict=True)
        }

    return tf.data.Dataset.counter(first).map(element)


def _served(
    service: DataService, remote: Callable[[tf.Tensor], tf.data.Dataset]
) -> Callable[[int], tf.data.Dataset]:
    """Makes data sets (number, batch) from a number on, in any order, some perhaps missing."""

    def served(first: int) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(first, tf.int64.max)
        made = numbers.interleave(
            lambda number: remote(number).map(lambda batch: (number, batch)),
            cycle_length=_MADE_AT_A_TIME,
            num_parallel_calls=_MADE_AT_A_TIME,
            deterministic=False,
        )
        # Each worker asks the dispatcher for its next number. Pixels hardly shrink by snappy.
        return made.apply(
            tf.data.experimental.service.distribute(
                tf.data.experimental.service.ShardingPolicy.DYNAMIC,
                service.address,
                compression=None,
            )
        )

    return served
