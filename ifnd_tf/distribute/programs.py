"""Compiled functions of variables, which later runs of a process reuse."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from ifnd_tf.distribute import replicas


def compiled(
    strategy: tf.distribute.Strategy,
    function: Callable,
    variables: Sequence[tf.Variable],
    *arguments: tf.TensorSpec,
    **static: Any,
) -> Callable:
    """A compiled function that runs `function(*variables, *arguments, **static)` on every replica.

    Without a strategy it is compiled once in a process for all variables of a shape, as for the
    runs of a comparison.

    Args:
        strategy: whose replicas run it.
        function: defined in a module, since the cache compares it by identity.
        variables: its first arguments.
        arguments: shapes and dtypes of the others, which the result takes.
        static: hashable keyword arguments.
    """
    if any(isinstance(each, tf.distribute.DistributedValues) for each in variables):
        # Captured, because TensorFlow takes a distributed variable that is an argument for a
        # constant. And a concrete function, because it takes functions made at one line for the
        # same one, and warns of retracing.
        captured = functools.partial(function, *variables, **static)
        return replicas.on_replicas(strategy, captured).get_concrete_function(*arguments)
    shapes = tuple(tf.TensorSpec(each.shape, each.dtype) for each in (*variables, *arguments))
    return functools.partial(shared(function, shapes, **static), *variables)


@functools.lru_cache(maxsize=64)
def shared(function: Callable, shapes: tuple[tf.TensorSpec, ...], **static: Any) -> Callable:
    """A compiled `function` for arguments of these shapes, one in a process."""
    # A partial: TensorFlow takes each for another function, and does not warn of retracing.
    return tf.function(functools.partial(function, **static), autograph=False)
