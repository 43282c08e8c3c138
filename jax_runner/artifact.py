"""A lowered run's folder, read: manifest, first state, and programs that JAX compiles."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError
from jax_runner.devices import AXIS, Devices

# Version of the folder's layout.
FORMAT = 3

# The argument of a program that is the number of the replica.
REPLICA = "replica"

LABEL_SUBSETS = "label_subsets.npz"

State = list[Any]


class Artifact:
    """A folder that `lowering` wrote.

    Args:
        folder: with manifest.json.

    Attributes:
        manifest: the manifest.
        digest: names this manifest; state files carry it.

    Raises:
        UserError: there is no manifest, or it is of another version.
    """

    def __init__(self, folder: Path):
        self.folder, path = folder, folder / "manifest.json"
        if not path.exists():
            raise UserError(
                f"expected a folder that lowering wrote. Received: {folder}, which has no "
                "manifest.json."
            )
        content = path.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        self.manifest: dict[str, Any] = json.loads(content)
        found = self.manifest.get("format")
        if found != FORMAT:
            raise UserError(
                f"{path}: expected an artifact of format {FORMAT}. Received: {found}; lower the "
                "run again, or use the runner that lies beside the manifest, run.pyz."
            )

    def __contains__(self, name: str) -> bool:
        return name in self.manifest["programs"]

    @property
    def num_devices(self) -> int:
        """R, the devices that run a program together."""
        return self.manifest["devices"]

    def first_state(self) -> list[np.ndarray]:
        """The variables before the first step; of a sharded one the rows of all devices."""
        with np.load(self.folder / self.manifest["initial"]) as stored:
            values = [
                stored[entry["stored"]]
                if "stored" in entry
                else np.full(entry["shape"], entry["fill"], entry["dtype"])
                for entry in self.manifest["state"]
            ]
        return [
            np.concatenate([value] * self.num_devices) if sharded else value
            for value, sharded in zip(values, self.sharded_state(), strict=True)
        ]

    def sharded_state(self) -> list[bool]:
        """Of each variable, whether each device has rows of its own."""
        return [entry.get("sharded", False) for entry in self.manifest["state"]]

    def label_subsets(self) -> dict[str, np.ndarray]:
        """Rows of the training images [subsets, n] that few_labels shows, by the share's name."""
        path = self.folder / LABEL_SUBSETS
        if not path.exists():
            return {}
        with np.load(path) as stored:
            return dict(stored.items())

    def compile(self, name: str, devices: Devices) -> "Compiled":
        """One program, compiled for some devices; once for all artifacts that hold it.

        Raises:
            UserError: the file is not the manifest's, or a device has too little memory.
        """
        return self.compile_ahead(name, devices).result()

    def compile_ahead(self, name: str, devices: Devices) -> "Future[Compiled]":
        """Begins to compile a program, beside others; see `compile`."""
        described = self.manifest["programs"][name]
        # Equal programs may find their variables at other numbers.
        key = json.dumps(described), devices
        if key not in _compiled:
            path = self.folder / f"{name}.vhlo"
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise UserError(
                    f"{path}: expected the program that the manifest names. Received: "
                    f"{'another' if content else 'no'} file; lower the run again."
                )
            _compiled[key] = _compilers.submit(Compiled, name, content, described, devices)
        return _compiled[key]


def artifacts_in(folder: Path) -> list[Artifact]:
    """The artifact in `folder`, or those in its folders: one seed's runs before the next seed's."""
    if (folder / "manifest.json").exists() or not folder.is_dir():
        return [Artifact(folder)]

    def place(artifact: Artifact) -> tuple[int, str]:
        return artifact.manifest.get("settings", {}).get("seed", -1), artifact.folder.name

    found = [Artifact(path.parent) for path in folder.glob("*/manifest.json")]
    return sorted(found, key=place) or [Artifact(folder)]


# Programs of this process, by their description. Most of a program's compilation runs on one core.
_compilers = ThreadPoolExecutor(8)
_compiled: dict[tuple[str, Devices], "Future[Compiled]"] = {}


class Compiled:
    """A program on the devices.

    Args:
        name: for messages.
        content: portable StableHLO of one replica.
        described: its inputs and outputs, from the manifest.
        devices: one for each replica.

    Attributes:
        inputs: name or state, and of all devices together shape and dtype.
        devices: as given.
    """

    def __init__(self, name: str, content: bytes, described: Mapping[str, Any], devices: Devices):
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
        # What the program writes anew is overwritten in place.
        donated = [i for i, e in enumerate(given) if e.get("state") in changed]
        replica = devices.on_each(
            _replica(content, described), sharded, [e.get("sharded", False) for e in self._outputs]
        )
        self._compiled = (
            jax.jit(replica, donate_argnums=donated, keep_unused=True).lower(*specs).compile()
        )
        _check_memory(name, self._compiled, devices)

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
    """One device's part of a program; the device's number is added to what it is given."""
    from jax import lax

    function, inputs = _callable(content, described), described["inputs"]

    def replica(*values: Any) -> list[Any]:
        given = iter(values)
        number = lax.axis_index(AXIS)
        return function(*(number if e.get("name") == REPLICA else next(given) for e in inputs))

    return replica


def _callable(content: bytes, described: Mapping[str, Any]) -> Callable:
    """Portable StableHLO as a function of JAX.

    `jax.export` reads such programs, if JAX exported them. So one is exported that has these
    inputs and outputs and does nothing, and its program replaced: `Exported` is a dataclass.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    specs = [jax.ShapeDtypeStruct(e["shape"], _dtype(e["dtype"])) for e in described["inputs"]]

    def stand_in(*_: Any) -> list[Any]:
        return [jnp.zeros(e["shape"], _dtype(e["dtype"])) for e in described["outputs"]]

    exported = export.export(jax.jit(stand_in, keep_unused=True))(*specs)
    return dataclasses.replace(exported, mlir_module_serialized=content).call


def _check_memory(name: str, compiled: Any, devices: Devices) -> None:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return
    needed = (
        analysis.argument_size_in_bytes
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
