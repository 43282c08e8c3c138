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

# Version of the folder's layout.
FORMAT = 2

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

    def first_state(self) -> list[np.ndarray]:
        """The variables before the first step."""
        with np.load(self.folder / self.manifest["initial"]) as stored:
            return [
                stored[entry["stored"]]
                if "stored" in entry
                else np.full(entry["shape"], entry["fill"], entry["dtype"])
                for entry in self.manifest["state"]
            ]

    def label_subsets(self) -> dict[str, np.ndarray]:
        """Rows of the training images [subsets, n] that few_labels shows, by the share's name."""
        path = self.folder / LABEL_SUBSETS
        if not path.exists():
            return {}
        with np.load(path) as stored:
            return dict(stored.items())

    def compile(self, name: str, memory_bytes: float | None = None) -> "Compiled":
        """One program, compiled for the default device; once for all artifacts that hold it.

        Args:
            name: of the program.
            memory_bytes: what the device has; None: as much as it says.

        Raises:
            UserError: the file is not the manifest's, or the device has too little memory.
        """
        return self.compile_ahead(name, memory_bytes).result()

    def compile_ahead(self, name: str, memory_bytes: float | None = None) -> "Future[Compiled]":
        """Begins to compile a program, beside others; see `compile`."""
        described = self.manifest["programs"][name]
        # Equal programs may find their variables at other numbers.
        key = json.dumps(described)
        if key not in _compiled:
            path = self.folder / f"{name}.vhlo"
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise UserError(
                    f"{path}: expected the program that the manifest names. Received: "
                    f"{'another' if content else 'no'} file; lower the run again."
                )
            _compiled[key] = _compilers.submit(Compiled, name, content, described, memory_bytes)
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
_compiled: dict[str, "Future[Compiled]"] = {}


class Compiled:
    """A program on the device.

    Args:
        name: for messages.
        content: portable StableHLO.
        described: its inputs and outputs, from the manifest.
        memory_bytes: see `Artifact.compile`.
    """

    def __init__(
        self, name: str, content: bytes, described: Mapping[str, Any], memory_bytes: float | None
    ):
        import jax

        self.inputs, self._outputs = described["inputs"], described["outputs"]
        specs = [jax.ShapeDtypeStruct(e["shape"], _dtype(e["dtype"])) for e in self.inputs]
        changed = {e["state"] for e in self._outputs if "state" in e}
        # What the program writes anew is overwritten in place.
        donated = [i for i, e in enumerate(self.inputs) if e.get("state") in changed]
        function = _callable(content, specs, self._outputs)
        self._compiled = (
            jax.jit(function, donate_argnums=donated, keep_unused=True).lower(*specs).compile()
        )
        _check_memory(name, self._compiled, memory_bytes)

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


def _callable(content: bytes, specs: list[Any], outputs: list[dict[str, Any]]) -> Callable:
    """Portable StableHLO as a function of JAX.

    `jax.export` reads such programs, if JAX exported them. So one is exported that has these
    inputs and outputs and does nothing, and its program replaced: `Exported` is a dataclass.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    def stand_in(*_: Any) -> list[Any]:
        return [jnp.zeros(e["shape"], _dtype(e["dtype"])) for e in outputs]

    exported = export.export(jax.jit(stand_in, keep_unused=True))(*specs)
    return dataclasses.replace(exported, mlir_module_serialized=content).call


def _check_memory(name: str, compiled: Any, memory_bytes: float | None) -> None:
    import jax

    analysis = compiled.memory_analysis()
    if analysis is None:
        return
    needed = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    device = jax.devices()[0]
    if memory_bytes is None:
        memory_bytes = (device.memory_stats() or {}).get("bytes_limit")
    if memory_bytes is not None and needed > memory_bytes:
        raise UserError(
            f"expected a device with {needed / 1e9:.2f} GB for the program {name!r}. Received: "
            f"{memory_bytes / 1e9:.2f} GB on {device.device_kind}; lower the run again with a "
            "smaller --batch_size."
        )
