"""A lowered run's folder, read: manifest, first state, and programs that JAX compiles."""

import hashlib
import json
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ifnd_tf.errors import UserError
from jax_runner.compiled import Compiled
from jax_runner.devices import Devices

# Version of the folder's layout.
FORMAT = 3

LABEL_SUBSETS = "label_subsets.npz"


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

    def compile(self, name: str, devices: Devices) -> Compiled:
        """One program, compiled for some devices; once for all artifacts that hold it.

        Raises:
            UserError: the file is not the manifest's, or a device has too little memory.
        """
        return self.compile_ahead(name, devices).result()

    def compile_ahead(self, name: str, devices: Devices) -> Future[Compiled]:
        """Begins to compile a program, beside others; see `compile`."""
        described = self.manifest["programs"][name]
        # Not by content alone: equal programs may number their variables differently.
        key = json.dumps(described), devices
        if key not in _compiled:
            path = self.folder / f"{name}.vhlo"
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise UserError(
                    f"{path}: expected the program that the manifest names. Received: "
                    f"{'another' if content else 'no'} file; lower the run again."
                )
            _compiled[key] = _compilers.submit(
                Compiled, name, content, described, devices, self._image_bytes()
            )
        return _compiled[key]

    def _image_bytes(self) -> int:
        """What the images take of each device's memory."""
        data = self.manifest.get("data", {"train": 0, "test": 0, "height": 0, "width": 0})
        rows = sum(math.ceil(data[part] / self.num_devices) for part in ("train", "test"))
        return rows * data["height"] * data["width"] * 3


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
_compiled: dict[tuple[str, Devices], Future[Compiled]] = {}
