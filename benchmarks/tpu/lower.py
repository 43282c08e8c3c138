"""A traced TPU step -> a pure function of one replica -> StableHLO for a TPU.

In the graph that `TPUStrategy.run` builds, the operations of one replica carry the
attribute `_tpu_replicate`. They are copied, one by one, into a function in which every
variable is an argument and, after the step, a result; XLA then lowers that function.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import handle_data_util

_REPLICATE = "_tpu_replicate"
# Ops that only a host can run, by what a user wrote to get them. The bridge would name an
# op that feeds them.
_HOST_OPS = {
    "PrintV2": "tf.print",
    "EagerPyFunc": "tf.py_function",
    "PyFunc": "tf.numpy_function",
    "WriteSummary": "tf.summary",
}
_DROPPED_ATTRIBUTES = {_REPLICATE, "_class", "_xla_inferred_shapes", "_gradient_op_type"}


class Parameter(NamedTuple):
    """One argument of the replica's program: a step's input or a variable.

    Attributes:
        name: of the tensor in the traced graph.
        spec: shape and dtype.
        is_variable: whether the program also returns its new value.
        handle: the variable's handle as it was captured, else None.
        constants: one value per replica where the graph fixes them (the replica's number),
            else None.
    """

    name: str
    spec: tf.TensorSpec
    is_variable: bool
    handle: Any = None
    constants: list[Any] | None = None


class Program(NamedTuple):
    """What one replica computes.

    `function` takes the values of `parameters` and returns the step's outputs
    followed by the variables, in the parameters' order. `shapeless` names the ops whose
    output has an unknown shape although their inputs' shapes are known.
    """

    function: Callable[..., list[tf.Tensor]]
    parameters: list[Parameter]
    output_names: list[str]
    shapeless: list[str]


class LoweringError(RuntimeError):
    """The step holds something that XLA cannot lower for a TPU; the message names the op."""


def replica_program(traced: Any) -> Program:
    """Takes one replica's program out of a concrete function traced under `TPUStrategy`.

    Args:
        traced: a `ConcreteFunction` whose body calls `strategy.run` once.

    Returns:
        The replica's `Program`.

    Raises:
        LoweringError: a variable is used in a way that has no functional counterpart.
    """
    graph = traced.graph
    body = [
        op
        for op in graph.get_operations()
        if _REPLICATE in op.node_def.attr and op.type != "TPUReplicateMetadata"
    ]
    if not body:
        raise LoweringError(
            "The traced function runs nothing on the TPU: it calls no strategy.run."
        )
    for op in body:
        if op.type in _HOST_OPS:
            wrote = _HOST_OPS[op.type]
            raise LoweringError(f"{op.type} (node {op.name}): {wrote} runs on the host.")
    inside = set(body)
    entries: dict[Any, tf.Tensor] = {}
    for op in body:
        for tensor in op.inputs:
            if tensor.op not in inside:
                entries.setdefault(tensor.ref(), tensor)
    tensors = list(entries.values())
    handles = {internal.ref(): external for external, internal in graph.captures}
    parameters = [_parameter(tensor, handles) for tensor in tensors]
    outputs = [op.inputs[0] for op in graph.get_operations() if op.type == "TPUReplicatedOutput"]

    def function(*values: tf.Tensor) -> list[tf.Tensor]:
        copy = _Copy(graph, tensors, parameters, values)
        for op in body:
            copy.operation(op)
        return copy.results(outputs)

    shapeless = [f"{op.type} (node {op.name})" for op in body if _loses_shape(op)]
    return Program(function, parameters, [output.name for output in outputs], shapeless)


def _loses_shape(op: tf.Operation) -> bool:
    def known(tensors: Sequence[tf.Tensor]) -> bool:
        return all(tensor.shape.is_fully_defined() for tensor in tensors)

    return known(op.inputs) and not known(op.outputs)


def lower(program: Program, platform: str = "TPU") -> str:
    """Lowers a replica's program with TensorFlow's bridge for a TPU.

    Needs the tensorflow-tpu wheel, the only one that has the TPU's kernels, and no TPU.

    Args:
        program: from `replica_program`.
        platform: XLA platform name.

    Returns:
        StableHLO text in which each updated variable is marked as donated, so that the
        compiler updates it in place as a TPU does.

    Raises:
        LoweringError: XLA has no kernel for an op, or a shape depends on data; the message
            names the op.
    """
    compiled = tf.function(program.function, jit_compile=True, autograph=False)
    try:
        text = compiled.experimental_get_compiler_ir(*(p.spec for p in program.parameters))(
            stage="stablehlo", platform_name=platform
        )
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise LoweringError(reason(str(error))) from error
    if "tensor<?" in text:
        # XLA pads such a tensor to its bound and recompiles nothing, but the project's steps
        # promise static shapes, and most of TensorFlow has no kernels for padded ones.
        blamed = ", ".join(program.shapeless[:3]) or "an op of the step"
        raise LoweringError(f"{blamed}: the shape of its output depends on the data.")
    return donate(_parseable(text), program)


def reason(message: str) -> str:
    """The part of an XLA bridge error that names the offending ops, on one line."""
    found = re.search(
        r"(unsupported operations.*?)(?:One approach|The op is created|$)", message, re.S
    )
    return " ".join((found.group(1) if found else message).split())[:500]


def donate(text: str, program: Program) -> str:
    """Marks each variable's argument as the storage of its new value.

    Args:
        text: StableHLO of the program.
        program: gives which arguments are variables.

    Returns:
        The text with `tf.aliasing_output` on those arguments.
    """
    targets: dict[int, int] = {}
    for position, parameter in enumerate(program.parameters):
        if parameter.is_variable:
            targets[position] = len(program.output_names) + len(targets)
    start = text.index("func.func @main(")
    end = text.index(") -> ", start)

    def mark(match: re.Match[str]) -> str:
        target = targets.get(int(match[1]))
        mark = "" if target is None else f" {{tf.aliasing_output = {target} : i32}}"
        return match[0] + mark

    head = re.sub(r"%arg(\d+): tensor<[^>]*>", mark, text[start:end])
    return text[:start] + head + text[end:]


def _parseable(text: str) -> str:
    """Replaces the one mhlo op TensorFlow leaves in its StableHLO, which jax cannot parse."""
    copy = (
        r'"?mhlo\.copy"?\s*\(?(%[\w#]+)\)? : '
        r"(?:\((tensor<[^>]*>)\) -> tensor<[^>]*>|(tensor<[^>]*>))"
    )
    return re.sub(
        copy, lambda m: f"stablehlo.reshape {m[1]} : ({m[2] or m[3]}) -> {m[2] or m[3]}", text
    )


def _parameter(tensor: tf.Tensor, handles: dict[Any, Any]) -> Parameter:
    """Name, shape and kind of a tensor that enters the replica's body."""
    replicated = tensor.op.type == "TPUReplicatedInput"
    sources = list(tensor.op.inputs) if replicated else [tensor]
    source = sources[0]
    if tensor.dtype != tf.resource:
        shape = tensor.shape if tensor.shape.is_fully_defined() else source.shape
        fixed = [tf.get_static_value(each) for each in sources]
        constants = None if any(value is None for value in fixed) else fixed
        return Parameter(source.name, tf.TensorSpec(shape, tensor.dtype), False, None, constants)
    data = handle_data_util.get_resource_handle_data(tensor)
    if not (data and data.is_set and data.shape_and_type):
        data = handle_data_util.get_resource_handle_data(source)
    inner = data.shape_and_type[0]
    spec = tf.TensorSpec(tf.TensorShape(inner.shape), tf.dtypes.as_dtype(inner.dtype))
    return Parameter(source.name, spec, True, handles.get(source.ref()))


class _Copy:
    """Rebuilds a replica's ops in the current graph, with variables as plain values."""

    def __init__(
        self,
        source: tf.Graph,
        tensors: list[tf.Tensor],
        parameters: list[Parameter],
        values: tuple[tf.Tensor, ...],
    ):
        self._graph = ops.get_default_graph()
        for function in source._functions.values():
            self._graph._add_function_recursive(function)
        self._tensors: dict[Any, Any] = {}
        self._variables: dict[Any, tf.Tensor] = {}
        for tensor, parameter, value in zip(tensors, parameters, values, strict=True):
            if parameter.is_variable:
                self._variables[tensor.ref()] = value
                # A handle stands for its variable's key, under whatever names Identity gives it.
                self._tensors[tensor.ref()] = tensor.ref()
            else:
                self._tensors[tensor.ref()] = value

    def operation(self, op: tf.Operation) -> None:
        """Copies one op; operations on variables become reads and writes of values."""
        if op.type == "NoOp":
            return
        inputs = [self._tensors[tensor.ref()] for tensor in op.inputs]
        if any(tensor.dtype == tf.resource for tensor in op.inputs):
            self._resource_operation(op, inputs)
            return
        attributes = {
            key: value for key, value in op.node_def.attr.items() if key not in _DROPPED_ATTRIBUTES
        }
        copied = self._graph._create_op_internal(
            op.type,
            inputs,
            [output.dtype for output in op.outputs],
            attrs=attributes,
            op_def=op.op_def,
            compute_device=False,
        )
        for old, new in zip(op.outputs, copied.outputs, strict=True):
            self._tensors[old.ref()] = new

    def results(self, outputs: list[tf.Tensor]) -> list[tf.Tensor]:
        """The step's outputs, then the variables as they are after the step."""
        return [self._tensors[o.ref()] for o in outputs] + list(self._variables.values())

    def _resource_operation(self, op: tf.Operation, inputs: list[Any]) -> None:
        key, rest = inputs[0], inputs[1:]
        value = self._variables[key]
        match op.type:
            case "Identity":
                self._tensors[op.outputs[0].ref()] = key
            case "ReadVariableOp":
                self._tensors[op.outputs[0].ref()] = tf.identity(value)
            case "VariableShape":
                shape = tf.constant(value.shape.as_list(), op.get_attr("out_type"))
                self._tensors[op.outputs[0].ref()] = shape
            case "ResourceGather":
                rows = tf.gather(value, rest[0], batch_dims=op.get_attr("batch_dims"))
                self._tensors[op.outputs[0].ref()] = rows
            case "AssignVariableOp":
                self._variables[key] = tf.ensure_shape(rest[0], value.shape)
            case "AssignAddVariableOp":
                self._variables[key] = value + rest[0]
            case "AssignSubVariableOp":
                self._variables[key] = value - rest[0]
            case "ResourceScatterUpdate":
                self._variables[key] = tf.tensor_scatter_nd_update(
                    value, rest[0][..., None], rest[1]
                )
            case "ResourceScatterNdUpdate":
                self._variables[key] = tf.tensor_scatter_nd_update(value, rest[0], rest[1])
            case _:
                raise LoweringError(f"No functional counterpart for {op.type} (node {op.name}).")
