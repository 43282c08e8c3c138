"""Training batches that a tf.data service makes on other machines, in this machine's order.

A service hands its elements out in any order, and loses those that a lost worker was making. So
each batch carries its number, and waits here for its turn; one that does not come is made here.
Each is a function of its number: a run is the same with the service, without it, and resumed.
"""

from collections.abc import Callable

import tensorflow as tf

from ifnd_tf.data.service_reader import Batch, DataService, ServiceReader

# Batches that a worker of the service makes at a time: each fills the pauses of the other.
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
        remote: number -> a data set of that element alone, of operations without Python; -1 in
            its "index" marks an image that could not be read.
        own: number -> the elements from that one on, made on this machine.
        first: number of the first element.
        most_early: elements that may wait for a missing earlier one before it is made here.

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
        # DYNAMIC: each worker asks the dispatcher for its next number. No compression: snappy
        # hardly shrinks pixels.
        return made.apply(
            tf.data.experimental.service.distribute(
                tf.data.experimental.service.ShardingPolicy.DYNAMIC,
                service.address,
                compression=None,
            )
        )

    return served
