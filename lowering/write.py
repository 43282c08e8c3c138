"""The folder that a run is lowered to: programs, first state, manifest and the runner itself."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.detection import detectors
from ifnd_tf.evaluation import few_labels
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.run.progress import Progress
from ifnd_tf.stages import build, build_detection, sizes
from jax_runner.artifact import FORMAT, LABEL_SUBSETS
from lowering import flops
from lowering.programs import Sizes, variables
from lowering.stablehlo import VERSION, Portable

ROOT = Path(__file__).resolve().parents[1]
RUNNER_NAME = "run.pyz"
INITIAL_NAME = "initial.npz"
# All that the runner is made of. Nothing here imports TensorFlow, Keras or scikit-learn.
RUNNER = (
    "jax_runner",
    *(f"ifnd_tf/{name}.py" for name in ("__init__", "errors", "run/__init__", "run/progress")),
    *(f"ifnd_tf/detection/{name}.py" for name in ("__init__", "metrics", "pseudo_labels")),
)


def write(
    folder: Path,
    config: Config,
    model: ContrastiveModel,
    detector: detectors.Detector,
    programs: Mapping[str, Portable],
    data: Sizes,
    steps_per_epoch: int,
    initial: Path | None = None,
) -> int:
    """Writes manifest.json, initial.npz, one .vhlo a program and run.pyz; returns their bytes.

    Args:
        folder: where to; made if it is not there.
        config: the run's settings.
        model: with the state to start from.
        detector: says when labels are refreshed.
        programs: by name.
        data: what the programs' shapes follow from.
        steps_per_epoch: for the schedules and the order.
        initial: file of the first values, which runs of one seed share; None: `folder`'s own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if initial is None:
        initial = folder / INITIAL_NAME
        initial.unlink(missing_ok=True)  # it may hold the values of an earlier run
    for name, program in programs.items():
        (folder / f"{name}.vhlo").write_bytes(program.content)
    owners = variables(model)
    state, stored = _first_state(owners)
    _add_arrays(initial, stored)
    manifest = {
        "format": FORMAT,
        "stablehlo": VERSION,
        "flags": config.as_flags(),
        "devices": model.distribute_strategy.num_replicas_in_sync,
        "data": data._asdict(),
        "steps_per_epoch": steps_per_epoch,
        "random_loss": sizes.loss_at_chance(config),
        "encoder": model.encoder.name,
        "state": state,
        "initial": os.path.relpath(initial, folder),
        **_roles(model, owners),
        "refreshes": refreshes(config, detector),
        "clusters": sizes.num_clusters(config, data.train),
        "step_flops": _step_flops(config, model, data),
        "settings": {name: getattr(config, name) for name in _SETTINGS},
        "programs": {name: _program(program) for name, program in programs.items()},
    }
    _write_manifest(folder, manifest)
    return sum(path.stat().st_size for path in folder.iterdir())


def write_label_subsets(folder: Path, config: Config, labels: np.ndarray) -> None:
    """Writes the label subsets of few_labels: drawing them takes TensorFlow's random numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    subsets = {
        few_labels.subset_name(share): np.stack(
            [few_labels.label_subset(labels, share, seed=s) for s in range(config.label_subsets)]
        )
        for share in config.shares
    }
    np.savez_compressed(folder / LABEL_SUBSETS, **subsets)  # type: ignore[arg-type]


def write_benchmark(folder: Path, iteration: Portable, devices: int) -> None:
    """Writes a k-means iteration alone, which `jax_runner` times."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kmeans.vhlo").write_bytes(iteration.content)
    # One pass over the points moves the centroids, another scores them.
    manifest = {
        "format": FORMAT,
        "stablehlo": VERSION,
        "devices": devices,
        "passes": 2,
        "programs": {"kmeans": _program(iteration)},
    }
    _write_manifest(folder, manifest)


def _program(program: Portable) -> dict[str, Any]:
    return {
        "inputs": program.inputs,
        "outputs": program.outputs,
        "sha256": hashlib.sha256(program.content).hexdigest(),
    }


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    write_runner(folder / RUNNER_NAME)


# What the runner needs of the configuration.
_SETTINGS = (
    *("acceptance_scope", "batch_size", "checkpoint_minutes", "detector", "epochs", "experiment"),
    *("linear_epochs", "linear_learning_rate", "linear_solver", "online_knn_epochs"),
    *("online_knn_examples", "precision", "protocols", "seed"),
)


def _first_state(owners: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first value of each variable; values that are not constant are stored by digest.

    That of a "sharded" variable is the value on each device.
    """
    described: list[dict[str, Any]] = []
    stored: dict[str, Any] = {}
    for owner in owners:
        value = owner.numpy()
        entry: dict[str, Any] = {
            "name": getattr(owner, "path", owner.name),
            "shape": list(value.shape),
            "dtype": str(value.dtype),
        }
        if isinstance(owner, tf.Variable):  # see `stablehlo.lower`
            entry["sharded"] = True
        if value.size and (value == value.flat[0]).all():
            entry["fill"] = value.flat[0].item()
        else:
            digest = hashlib.sha256(value.tobytes() + str(value.shape).encode()).hexdigest()
            entry["stored"] = digest
            stored[digest] = value
        described.append(entry)
    return described, stored


def _add_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Adds arrays to an .npz, which may be there already."""
    before: dict[str, Any] = {}
    if path.exists():
        with np.load(path) as stored:
            before = dict(stored.items())
    if set(arrays) - set(before):
        np.savez(path, **{**before, **arrays})  # not compressed: `pack` does it better


def _roles(model: ContrastiveModel, owners: Sequence[Any]) -> dict[str, Any]:
    """Which variables the runner itself reads or writes."""
    places = {id(owner): number for number, owner in enumerate(owners)}
    labels, confidence = model.pseudo_labels, model.label_confidence
    return {
        "labels": None if labels is None else places[id(labels)],
        "confidence": None if confidence is None else places[id(confidence)],
        "query": [places[id(v)] for part in model.network for v in part.variables],
        "means": [places[id(v)] for metric in model.metrics for v in metric.variables],
    }


def refreshes(config: Config, detector: detectors.Detector) -> dict[str, float]:
    """Acceptance rate of each refresh, by the epoch before which it happens, counted from 0."""
    callback = build_detection.make_callback(
        config, detector, np.zeros(0, np.int32), progress=Progress(enabled=False)
    )
    return {str(e): callback.rate(e) for e in range(config.epochs) if callback.due(e)}


def _step_flops(config: Config, model: ContrastiveModel, data: Sizes) -> float:
    if config.framework != "moco":
        return 0.0
    count = flops.step_flops(
        model.network,
        batch=config.batch_size,
        negatives=config.queue_size,
        image_size=config.image_size,
        blurred=build.augmentation(config).blur_probability > 0,
    )
    return count.total


def write_runner(path: Path) -> None:
    """One file that runs where Python, NumPy and JAX are: `python run.pyz DIR ...`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in RUNNER:
            source = ROOT / name
            for file in sorted(source.glob("*.py")) if source.is_dir() else [source]:
                archive.write(file, file.relative_to(ROOT))
        archive.writestr("__main__.py", _ENTRY)


_ENTRY = """import sys

from jax_runner.__main__ import main

sys.exit(main(sys.argv[1:]))
"""
