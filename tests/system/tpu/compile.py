"""StableHLO -> a TPU executable, by libtpu's compile-only client; needs jax, and no TPU.

    python -m tests.system.tpu.compile MODULE.mlir KIND EFFORT RESULT.json

A process of its own for every compilation: libtpu aborts on some errors, and its
packages do not fit into one environment with those that lower the step.
"""

import collections
import itertools
import json
import os
import re
import sys
import time
from typing import Any

# libtpu would ask the cloud's metadata server which TPU this is, and wait for an answer.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nothing here touches a device, so two compilations need not exclude each other.
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

from tests.system.tpu import hlo
from tests.system.tpu.chips import CHIPS, Chip

EFFORTS = ("default", "O0", "O1", "O2", "O3")

# The host's part in a custom call.
_HOST_CALL = re.compile(r"custom_call_target=\"([^\"]*(?:callback|Host)[^\"]*)\"")
# Before compilation. TensorFlow lowers no other sends than those to its host.
_LOWERED_HOST_OPS = re.compile(
    r"stablehlo\.(infeed|outfeed|send|recv)\b|custom_call @(\S*(?:callback|Host)\w*)"
)
_USED_HBM = re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def host_transfers(text: str) -> list[str]:
    """Ops of a compiled HLO module that exchange data with the host.

    Args:
        text: of the compiled module.

    Returns:
        "op name" of each; transfers between TPU cores are not among them.
    """
    found = []
    for each in itertools.chain(*hlo.computations(text).values()):
        if each.op in ("infeed", "outfeed") or "is_host_transfer=true" in each.rest:
            found.append(f"{each.op} {each.name}")
        elif call := _HOST_CALL.search(each.rest):
            found.append(f"{call[1]} {each.name}")
    return found


def lowered_host_transfers(text: str) -> list[str]:
    """Ops of a StableHLO module that exchange data with the host, by kind."""
    return [match[1] or match[2] for match in _LOWERED_HOST_OPS.finditer(text)]


def _compiled_text(executable: Any) -> str:
    """Text of the compiled module, "" where jax's own XLA is too old to read libtpu's."""
    try:
        return executable.hlo_modules()[0].to_string()
    except Exception:  # a v6e module has asynchronous ops that fail jax's checks
        return ""


def stored_shapes(text: str) -> dict[str, int]:
    """The arrays that a compiled module stores, by shape such as "256,1000", and how often.

    The intermediate results of a fusion, in a computation of its own, never leave the chip.
    """
    every = hlo.computations(text)
    fused = {each.called("calls") for body in every.values() for each in body}
    kept = [each for name, body in every.items() if name not in fused for each in body]
    shapes = [shape for each in kept for shape in re.findall(r"\w+\[([\d,]+)\]", each.kind)]
    return dict(collections.Counter(shapes))


def out_of_memory(message: str) -> dict[str, float] | None:
    """Bytes needed and available, read from the compiler's out-of-memory error; else None."""
    found = _USED_HBM.search(message)
    if not found:
        return None
    used, used_unit, limit, limit_unit = found.groups()
    return {
        "peak_bytes": float(used) * _UNITS[used_unit],
        "hbm_bytes": float(limit) * _UNITS[limit_unit],
    }


def compile_module(text: str, chip: Chip, effort: str) -> dict[str, Any]:
    """Compiles one replica's module for a TPU.

    Args:
        text: StableHLO with its collectives.
        chip: the slice to compile for.
        effort: one of `EFFORTS`; "default" leaves it to libtpu, as a TPU does.

    Returns:
        `error` ("" if it compiled), `seconds`, `cpu_seconds`, and per core `flops`, `bytes`,
        `argument_bytes`, `temporary_bytes`, `peak_bytes` and `host_transfers`.
    """
    executable, seconds, error = compiled_executable(text, chip, effort)
    if executable is None:
        return {"error": error[:600], "seconds": seconds, **(out_of_memory(error) or {})}
    cost = executable.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    memory = executable.get_compiled_memory_stats()
    text_compiled = _compiled_text(executable)
    code, arguments = memory.generated_code_size_in_bytes, memory.argument_size_in_bytes
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "error": "",
        "seconds": seconds,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "argument_bytes": arguments,
        "temporary_bytes": memory.temp_size_in_bytes,
        # The compiler's own peak leaves out the program; the sum ignores when buffers live.
        "peak_bytes": code
        + max(memory.peak_memory_in_bytes, arguments + fresh + memory.temp_size_in_bytes),
        "host_transfers": lowered_host_transfers(text) + host_transfers(text_compiled),
        "stored_shapes": stored_shapes(text_compiled),
    }


def compiled_executable(text: str, chip: Chip, effort: str) -> tuple[Any, float, str]:
    """The compiled program or None, the seconds it took, and the compiler's reason."""
    import numpy as np
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax.experimental import topologies
    from jaxlib import _jax
    from jaxlib.mlir import ir

    options = {"chip_config_name": "megacore"} if chip.megacore else {}
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=chip.topology, **options
    ).devices
    if len(devices) != chip.replicas:
        raise RuntimeError(f"{chip.topology}: expected {chip.replicas} devices, not {len(devices)}")
    compile_options = compiler.get_compile_options(
        num_replicas=chip.replicas,
        num_partitions=1,
        device_assignment=np.array([[device.id] for device in devices]),
        env_options_overrides=(
            {} if effort == "default" else {"xla_optimization_level": f"EFFORT_{effort}"}
        ),
    )
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
    start = time.monotonic()
    try:
        executable = devices[0].client.compile(
            module,
            executable_devices=_jax.DeviceList(tuple(devices)),
            compile_options=compile_options,
        )
    except Exception as error:  # libtpu raises its own kinds; the message says which
        return None, time.monotonic() - start, " ".join(str(error).split())
    return executable, time.monotonic() - start, ""


def main(arguments: list[str]) -> int:
    """Compiles as the command line says and writes the result as JSON."""
    module, kind, effort, result = arguments
    with open(module, encoding="utf-8") as file:
        text = file.read()
    measured = compile_module(text, CHIPS[kind], effort)
    measured["cpu_seconds"] = time.process_time()
    with open(result, "w", encoding="utf-8") as file:
        json.dump(measured, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
