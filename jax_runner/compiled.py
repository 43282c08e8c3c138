"""A lowered program, compiled by JAX for the devices of a run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ifnd_tf.errors import UserError
from jax_runner.devices import AXIS, Devices

# The argument of a program that is the number of the replica.
REPLICA = "replica"

# The variables, in the manifest's order.
State = list[Any]


class Compiled:
    """A program on the devices.

    Args:
        name: for messages.
        content: portable StableHLO of one replica.
        described: its inputs and outputs, from the manifest.
        devices: one for each replica.
        held: bytes of each device's memory that are in use already.

    Attributes:
        inputs: name or state, and of all devices together shape and dtype.
        devices: as given.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        described: Mapping[str, Any],
        devices: Devices,
        held: int,
    ):
        import jax

        self.devices = devices
        given = [e for e in described["inputs"] if e.get("name") != REPLICA]
        self._outputs = described["outputs"]
        sharded = [e.get("sharded", False) for e in given]
        specs = [
            devices.spec(e["shape"], _dtype(e["dtype"]), sharded=apart)
            for e, apart in zip(given, sharded, strict=True)
        ]
        self.inputs = [e | {"shape": spec.shape} for e, spec in zip(given, specs, strict=True)]
        changed = {e["state"] for e in self._outputs if "state" in e}
        # Donated, so that the program updates its variables in place.
        donated = [i for i, e in enumerate(given) if e.get("state") in changed]
        replica = devices.on_each(
            _replica(content, described), sharded, [e.get("sharded", False) for e in self._outputs]
        )
        self._compiled = (
            jax.jit(replica, donate_argnums=donated, keep_unused=True).lower(*specs).compile()
        )
        _check_memory(name, self._compiled, devices, held)

    def __call__(self, state: State, **arguments: Any) -> dict[str, Any]:
        """Runs once; new values of variables replace those in `state`."""
        values = [state[e["state"]] if "state" in e else arguments[e["name"]] for e in self.inputs]
        results = {}
        for entry, value in zip(self._outputs, self._compiled(*values), strict=True):
            if "state" in entry:
                state[entry["state"]] = value
            else:
                results[entry["name"]] = value
        return results


def _dtype(name: str) -> Any:
    import jax.numpy as jnp

    return jnp.dtype(name)


def _replica(content: bytes, described: Mapping[str, Any]) -> Callable:
    """A program as a function on one device, which adds the device's number to its arguments."""
    from jax import lax

    function, inputs = _callable(content, described), described["inputs"]

    def replica(*values: Any) -> list[Any]:
        given = iter(values)
        number = lax.axis_index(AXIS)
        return function(*(number if e.get("name") == REPLICA else next(given) for e in inputs))

    return replica


def _callable(content: bytes, described: Mapping[str, Any]) -> Callable:
    """Portable StableHLO as a function of JAX.

    `jax.export` calls only programs that JAX exported. So a stand-in with these inputs and outputs
    is exported, and its StableHLO replaced by `content`.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    specs = [jax.ShapeDtypeStruct(e["shape"], _dtype(e["dtype"])) for e in described["inputs"]]

    def stand_in(*_: Any) -> list[Any]:
        return [jnp.zeros(e["shape"], _dtype(e["dtype"])) for e in described["outputs"]]

    # The content has no operations of one kind of device, so it runs on every kind.
    anywhere = [export.DisabledSafetyCheck.platform()]
    exported = export.export(jax.jit(stand_in, keep_unused=True), disabled_checks=anywhere)(*specs)
    return dataclasses.replace(exported, mlir_module_serialized=content).call


def _check_memory(name: str, compiled: Any, devices: Devices, held: int) -> None:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return
    needed = (
        held
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    available = devices.memory_bytes
    if available is not None and needed > available:
        raise UserError(
            f"expected a device with {needed / 1e9:.2f} GB for the program {name!r}. Received: "
            f"{available / 1e9:.2f} GB on {devices}; lower the run again with a smaller "
            "--batch_size."
        )
