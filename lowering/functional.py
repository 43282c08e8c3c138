"""A traced graph as a pure function: variables come in as arguments and go out as results.

The graph's operations are copied, one by one, into a new function. So XLA can lower a step
that reads and writes variables, and the runner of the result decides where variables are kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import handle_data_util

# Attributes that hold for the traced graph alone.
_DROPPED = {"_tpu_replicate", "_class", "_xla_inferred_shapes", "_gradient_op_type"}


class LoweringError(RuntimeError):
    """The step holds something that XLA cannot lower; the message names the op."""


class Parameter(NamedTuple):
    """One argument of a program: a step's input or a variable.

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
    """The computation of one device.

    `function` takes the values of `parameters` and returns the step's outputs
    followed by the variables, in the parameters' order. `shapeless` names the ops whose
    output has an unknown shape although their inputs' shapes are known.
    """

    function: Callable[..., list[tf.Tensor]]
    parameters: list[Parameter]
    output_names: list[str]
    shapeless: list[str]


def variables(model: Any) -> list[Any]:
    """All Keras variables that a step may change, in an order that depends on the model alone."""
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [*model.variables, *model.optimizer.variables, *metrics]


def parameter(tensor: tf.Tensor, handles: dict[Any, Any]) -> Parameter:
    """Name, shape and kind of a tensor that enters the copied operations."""
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


class GraphCopy:
    """Rebuilds operations in the current graph, with variables as plain values."""

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
                # A handle, and each Identity of it, maps to the key of its variable.
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
        attributes = {key: value for key, value in op.node_def.attr.items() if key not in _DROPPED}
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
