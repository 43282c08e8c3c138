"""Runs a lowered training step, with its collectives, on virtual CPU devices; needs jax.

    python -m tests.system.tpu.execute DIRECTORY...

`tests.system.tpu.numerics` fills each directory; result.json tells how far each variable is
from the one that Keras computed.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def _load(text: str, replicas: int) -> tuple[Any, list[Any]]:
    """The module as an executable for `replicas` virtual CPU devices, and the devices."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={replicas}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1"  # the optimizer counts steps in int64
    import jax
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jaxlib import _jax
    from jaxlib.mlir import ir

    devices = jax.devices()[:replicas]
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
    options = compiler.get_compile_options(
        num_replicas=replicas,
        num_partitions=1,
        device_assignment=np.array([[device.id] for device in devices]),
    )
    loaded = devices[0].client.compile_and_load(module, _jax.DeviceList(tuple(devices)), options)
    return loaded, devices


def _place(per_replica: list[np.ndarray], devices: list[Any]) -> Any:
    """One array that holds `per_replica[i]` on device i."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    # Called replicated, although the replicas may differ: any other sharding would ask for
    # an axis to split, which a scalar lacks.
    sharding = NamedSharding(Mesh(np.array(devices), ("replica",)), PartitionSpec())
    parts = [jax.device_put(v, d) for v, d in zip(per_replica, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(per_replica[0].shape, sharding, parts)


def execute(directory: Path) -> dict[str, Any]:
    """Runs the module for as many steps as Keras took.

    Returns:
        `losses` and `expected_losses`, one per step; `variables`, a list of (name, largest
        absolute difference over replicas and entries, largest absolute value);
        `replicas_equal`, whether all replicas hold the same variables.
    """
    described = json.loads((directory / "layout.json").read_text(encoding="utf-8"))
    layout, replicas = described["layout"], described["replicas"]
    arguments = np.load(directory / "arguments.npz")
    expected = np.load(directory / "expected.npz")
    text = (directory / "module.mlir").read_text(encoding="utf-8")
    loaded, devices = _load(text.replace("tf.aliasing_output", "tf.no_alias"), replicas)
    held = {
        i: [arguments[str(entry["variable"])]] * replicas
        for i, entry in enumerate(layout)
        if entry["variable"] >= 0
    }
    outputs: list[list[np.ndarray]] = []
    losses = []
    for step in range(described["steps"]):
        values = []
        for i, entry in enumerate(layout):
            if entry["constants"] is not None:
                values.append([np.asarray(c, np.int32) for c in entry["constants"]])
            elif entry["input"]:
                numbers = range(step * replicas, (step + 1) * replicas)
                values.append([arguments[f"{entry['input']}/{n}"] for n in numbers])
            else:
                values.append(held[i])
        ran = loaded.execute_sharded([_place(value, devices) for value in values])
        outputs = [
            [np.asarray(part) for part in parts]
            for parts in ran.disassemble_into_single_device_arrays()
        ]
        held = dict(zip(held, outputs[described["outputs"] :], strict=True))
        losses.append(float(outputs[described["loss"]][0]))
    compared = []
    for i, parts in held.items():
        variable = layout[i]["variable"]
        reference = expected[str(variable)].astype(np.float64)
        apart = max((np.max(np.abs(p - reference), initial=0.0) for p in parts), default=0.0)
        name = described["names"][variable]
        compared.append((name, float(apart), float(np.max(np.abs(reference), initial=0.0))))
    return {
        "losses": losses,
        "expected_losses": expected["losses"].tolist(),
        "variables": compared,
        "replicas_equal": all(
            np.array_equal(part, parts[0]) for parts in held.values() for part in parts
        ),
    }


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        (folder / "result.json").write_text(json.dumps(execute(folder)), encoding="utf-8")
