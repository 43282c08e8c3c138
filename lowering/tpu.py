"""A traced TPU step -> a pure function of one replica -> StableHLO for a TPU.

In the graph that `TPUStrategy.run` builds, the operations of one replica carry the
attribute `_tpu_replicate`. They are copied, one by one, into a function in which every
variable is an argument and, after the step, a result; XLA then lowers that function.
"""

import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lowering.functional import GraphCopy, LoweringError, Program, parameter

_REPLICATE = "_tpu_replicate"
# Ops that only a host can run, with the function that makes them. The error of TensorFlow's bridge
# would name an op that feeds them instead.
_HOST_OPS = {
    "PrintV2": "tf.print",
    "EagerPyFunc": "tf.py_function",
    "PyFunc": "tf.numpy_function",
    "WriteSummary": "tf.summary",
}


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
    parameters = [parameter(tensor, handles) for tensor in tensors]
    outputs = [op.inputs[0] for op in graph.get_operations() if op.type == "TPUReplicatedOutput"]

    def function(*values: tf.Tensor) -> list[tf.Tensor]:
        copy = GraphCopy(graph, tensors, parameters, values)
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
    return donate(parseable(text), program)


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
    for position, argument in enumerate(program.parameters):
        if argument.is_variable:
            targets[position] = len(program.output_names) + len(targets)
    start = text.index("func.func @main(")
    end = text.index(") -> ", start)

    def mark(match: re.Match[str]) -> str:
        target = targets.get(int(match[1]))
        mark = "" if target is None else f" {{tf.aliasing_output = {target} : i32}}"
        return match[0] + mark

    head = re.sub(r"%arg(\d+): tensor<[^>]*>", mark, text[start:end])
    return text[:start] + head + text[end:]


def parseable(text: str) -> str:
    """Replaces the one mhlo op TensorFlow leaves in its StableHLO, which jax cannot parse."""
    copy = (
        r'"?mhlo\.copy"?\s*\(?(%[\w#]+)\)? : '
        r"(?:\((tensor<[^>]*>)\) -> tensor<[^>]*>|(tensor<[^>]*>))"
    )
    return re.sub(
        copy, lambda m: f"stablehlo.reshape {m[1]} : ({m[2] or m[3]}) -> {m[2] or m[3]}", text
    )
