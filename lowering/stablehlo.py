"""TensorFlow functions -> portable StableHLO: bytes that any later XLA can read.

A StableHLO program in the VHLO dialect of a stated version is promised to load for five years
(StableHLO's compatibility document). It holds no operation of the host and no custom call: the
kernels of a device are left to the XLA that reads it.
"""

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.compiler.mlir.stablehlo import stablehlo

from ifnd_tf.distribute import replicas
from jax_runner.compiled import REPLICA
from lowering.functional import GraphCopy, LoweringError, Parameter, parameter
from lowering.strategy import LoweredReplicas
from lowering.tpu import parseable, reason

# The oldest that has every operation used here, so that most readers understand it.
VERSION = "1.0.0"

# Locations of operations in the source, and attributes of XLA's own dialect.
_NOTES = re.compile(
    r" loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)|^#loc.*$"
    r"| attributes \{mhlo\.[^}]*\}|\{mhlo\.frontend_attributes = \{[^}]*\}\}",
    re.M,
)

# TensorFlow gives all all-reduces one channel number, and lets them join XLA's replicas. JAX runs
# its devices as XLA's partitions, and XLA tells all-reduces apart by their channel numbers.
_ALL_REDUCE = re.compile(
    r"channel_handle = #stablehlo\.channel_handle<handle = \d+, type = 0>, "
    r"(replica_groups = dense<[^>]*> : tensor<\w+>)"
)


class Portable(NamedTuple):
    """A lowered function.

    Attributes:
        content: the artifact.
        inputs: of each argument "name" (or "state", the variable's number), and "shape" and
            "dtype" on one device; "sharded", if each device has rows of its own.
        outputs: likewise; a variable is among them if the function changes it.
    """

    content: bytes
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


def lower(
    function: Callable[..., Mapping[str, tf.Tensor]],
    arguments: Mapping[str, tf.TensorSpec],
    variables: Sequence[Any] = (),
    *,
    strategy: tf.distribute.Strategy | None = None,
    sharded: Collection[str] = (),
) -> Portable:
    """Lowers a function with static shapes for one device of any kind, or each of several.

    Args:
        function: takes the arguments by position; returns tensors by name.
        arguments: their names and shapes.
        variables: Keras' or TensorFlow's, those that the function may read and write. Keras' are
            equal on all devices; of TensorFlow's each has its own (`replicas.own_variable`).
        strategy: `LoweredReplicas` if several devices run the program together.
        sharded: names of the arguments and results of which each device has rows of its own.

    Raises:
        LoweringError: XLA has no kernel for an op, or the function needs another variable.
    """
    function, arguments = _of_one_replica(function, arguments, strategy)
    with replicas.traced_for_accelerator():
        traced = tf.function(function, autograph=False).get_concrete_function(*arguments.values())
    graph = traced.graph
    numbers = {id(_handle(variable)): i for i, variable in enumerate(variables)}
    captured = {internal.ref(): external for external, internal in graph.captures}
    tensors = list(graph.inputs)
    parameters = [parameter(tensor, captured) for tensor in tensors]
    # A captured array is a constant of the function.
    fixed = [
        captured[tensor.ref()] if tensor.ref() in captured and not entry.is_variable else None
        for tensor, entry in zip(tensors, parameters, strict=True)
    ]
    passed = [place for place, constant in enumerate(fixed) if constant is None]
    names = dict(enumerate(arguments))
    inputs = [_input(parameters[place], names.get(place), numbers) for place in passed]
    outputs: list[dict[str, Any]] = []
    body = [op for op in graph.get_operations() if op.type != "Placeholder"]
    result_names = sorted(traced.structured_outputs)

    def pure(*values: tf.Tensor) -> list[tf.Tensor]:
        given = iter(values)
        filled = tuple(next(given) if constant is None else constant for constant in fixed)
        copy = GraphCopy(graph, tensors, parameters, filled)
        for op in body:
            copy.operation(op)
        results = copy.results(graph.outputs)
        count = len(graph.outputs)
        before = [v for v, entry in zip(filled, parameters, strict=True) if entry.is_variable]
        numbered = [e["state"] for e in inputs if "state" in e]
        changed = [
            (number, new)
            for number, old, new in zip(numbered, before, results[count:], strict=True)
            if new is not old
        ]
        outputs[:] = [
            *({"name": n} | _described(r) for n, r in zip(result_names, results, strict=False)),
            *({"state": number} | _described(new) for number, new in changed),
        ]
        return results[:count] + [new for _, new in changed]

    content = _content(pure, [parameters[place].spec for place in passed])
    own = {i for i, variable in enumerate(variables) if isinstance(variable, tf.Variable)}
    for entry in (*inputs, *outputs):
        if entry.get("name") in sharded or entry.get("state") in own:
            entry["sharded"] = True
    return Portable(content, inputs, outputs)


def _of_one_replica(
    function: Callable, arguments: Mapping[str, tf.TensorSpec], strategy: Any
) -> tuple[Callable, Mapping[str, tf.TensorSpec]]:
    """With several replicas: the function of one, with its number as an added first argument."""
    if not isinstance(strategy, LoweredReplicas):
        return function, arguments

    def numbered(replica: tf.Tensor, *values: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return strategy.trace(replica, function, values)

    return numbered, {REPLICA: tf.TensorSpec([], tf.int32), **arguments}


def _input(entry: Parameter, name: str | None, numbers: Mapping[int, int]) -> dict[str, Any]:
    """An argument of a program, by its name, or by a variable's number, found by its handle."""
    if not entry.is_variable:
        return {"name": name} | _described(entry.spec)
    if id(entry.handle) not in numbers:
        raise LoweringError(f"{entry.name}: expected a variable of the model or its optimizer.")
    return {"state": numbers[id(entry.handle)]} | _described(entry.spec)


def _content(function: Callable, specs: Sequence[tf.TensorSpec]) -> bytes:
    compiled = tf.function(function, jit_compile=True, autograph=False)
    try:
        # The GPU's set of kernels is the larger one, and none needs a GPU to be lowered.
        text = compiled.experimental_get_compiler_ir(*specs)(stage="stablehlo", platform_name="GPU")
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise LoweringError(reason(str(error))) from error
    text = _NOTES.sub("", parseable(text))
    text = _between_devices(text)
    custom = sorted(set(re.findall(r"custom_call @(\w+)", text)))
    if custom:
        raise LoweringError(f"expected StableHLO alone. Received: custom calls {custom}.")
    return stablehlo.serialize_portable_artifact_str(text, VERSION)


def _between_devices(text: str) -> str:
    """Gives each all-reduce a channel number, and lets it join devices as JAX counts them."""
    numbers = itertools.count(1)

    def numbered(match: re.Match[str]) -> str:
        handle = f"#stablehlo.channel_handle<handle = {next(numbers)}, type = 1>"
        return f"channel_handle = {handle}, {match[1]}, use_global_device_ids"

    text, found = _ALL_REDUCE.subn(numbered, text)
    if found != text.count("stablehlo.all_reduce"):
        raise LoweringError(
            "expected all-reduces as TensorFlow 2.21 writes them. Received: others."
        )
    return text


def _handle(variable: Any) -> Any:
    return variable.handle if isinstance(variable, tf.Variable) else variable.value.handle


def _described(value: Any) -> dict[str, Any]:
    return {"shape": value.shape.as_list(), "dtype": value.dtype.name}
