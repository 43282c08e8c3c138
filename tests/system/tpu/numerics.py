"""Does the lowered program compute what Keras computes?

    python -m tests.system.tpu.numerics lower DIRECTORY...   # where tensorflow-tpu is
    python -m tests.system.tpu.numerics keras DIRECTORY...   # where tensorflow is
    python -m tests.system.tpu.execute DIRECTORY...          # where jax is

Each directory holds settings.json; all name as many replicas. The first traces and lowers the
training step as a TPU would be given it. The second takes the same steps with Keras under
MirroredStrategy, which the TPU's wheel cannot: it has no XLA for the CPU. The third runs the
lowered module, with its collectives, on as many virtual CPU devices, and says how far the two
are apart.
"""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.stages import build
from lowering import functional, tpu
from tests.system.tpu import programs, trace


def batches(config: Config, rows: int, replicas: int, steps: int) -> list[dict[str, np.ndarray]]:
    """Random batches: one element per replica and step, in the order replicas take them."""
    rng = np.random.default_rng(0)
    elements = []
    for number in range(steps * replicas):
        element = {
            name: rng.integers(0, 256, value.shape).astype(value.dtype)
            if value.dtype == np.uint8
            else rng.random(value.shape).astype(value.dtype)
            for name, value in programs.element(config, rows).items()
        }
        element["index"] = (number * rows + np.arange(rows)).astype(np.int32)
        elements.append(element)
    return elements


def _model(config: Config, strategy: tf.distribute.Strategy, num_examples: int) -> ContrastiveModel:
    """The model, with pseudo-labels that mask something."""
    model = build.model(config, strategy, num_examples=num_examples)
    if model.pseudo_labels is not None:
        shape = model.pseudo_labels.shape
        labels = np.random.default_rng(1).integers(-1, 3, shape).astype(np.int32)
        model.pseudo_labels.assign(labels)
    return model


def _iterator(strategy: tf.distribute.Strategy, elements: list[dict[str, np.ndarray]]) -> Any:
    stacked = {name: np.stack([e[name] for e in elements]) for name in elements[0]}
    return iter(
        strategy.distribute_datasets_from_function(
            lambda _: tf.data.Dataset.from_tensor_slices(stacked).repeat()
        )
    )


def _is_handle_of(handle: Any, variable: Any) -> bool:
    distributed = variable.value
    packed = getattr(distributed, "_packed_var", None)
    if packed is not None:
        return packed.packed_handle is handle
    return any(part.handle is handle for part in getattr(distributed, "values", [distributed]))


def _first(variable: Any) -> np.ndarray:
    """The first replica's value: read as a whole, a metric's would be summed over replicas."""
    return getattr(variable.value, "values", (variable.value,))[0].numpy()


def _read(settings: dict[str, Any]) -> tuple[Config, list[dict[str, np.ndarray]]]:
    replicas, rows = settings["replicas"], settings["replica_batch"]
    config = programs.configuration(settings["flagfile"], settings["overrides"], rows, replicas)
    return config, batches(config, rows, replicas, settings["steps"])


def lowered_side(settings: dict[str, Any], directory: Path) -> None:
    """Writes module.mlir, arguments.npz (initial variables and batches) and layout.json.

    Args:
        settings: `flagfile`, `overrides`, `replicas`, `replica_batch`, `num_examples`, `steps`.
        directory: where to write.
    """
    config, elements = _read(settings)
    strategy = trace.pretend_strategy(settings["replicas"])
    model = _model(config, strategy, settings["num_examples"])
    traced = model.make_train_function().get_concrete_function(_iterator(strategy, elements))
    program = tpu.replica_program(traced)
    (directory / "module.mlir").write_text(tpu.lower(program), encoding="utf-8")
    owners, names = functional.variables(model), sorted(elements[0])
    layout = []
    for parameter in program.parameters:
        entry: dict[str, Any] = {"variable": -1, "input": "", "constants": None}
        if parameter.constants is not None:
            entry["constants"] = [int(value) for value in parameter.constants]
        elif parameter.is_variable:
            held = [_is_handle_of(parameter.handle, owner) for owner in owners]
            entry["variable"] = held.index(True)
        else:
            # The pipeline's elements come in the order of their sorted names.
            entry["input"] = names[int(parameter.name.rsplit(":", 1)[1])]
        layout.append(entry)
    arguments: Any = {str(i): owner.numpy() for i, owner in enumerate(owners)}
    for number, element in enumerate(elements):
        arguments |= {f"{name}/{number}": value for name, value in element.items()}
    np.savez(directory / "arguments.npz", **arguments)
    described = {
        "layout": layout,
        "replicas": settings["replicas"],
        "steps": settings["steps"],
        "outputs": len(program.output_names),
        "loss": sorted(traced.structured_outputs).index("loss"),
        "names": [owner.path for owner in owners],
    }
    (directory / "layout.json").write_text(json.dumps(described), encoding="utf-8")


@functools.cache  # each strategy numbers its collectives from the same number on
def _mirrored(replicas: int) -> tf.distribute.Strategy:
    devices = trace.split_cpu(replicas)
    return tf.distribute.MirroredStrategy([name.rsplit("device:")[-1] for name in devices])


def keras_side(settings: dict[str, Any], directory: Path) -> None:
    """Writes expected.npz: the loss of each step and the variables after the last."""
    config, elements = _read(settings)
    strategy = _mirrored(settings["replicas"])
    model = _model(config, strategy, settings["num_examples"])
    owners, start = functional.variables(model), np.load(directory / "arguments.npz")
    for i, owner in enumerate(owners):
        owner.assign(start[str(i)])
    function, iterator = model.make_train_function(), _iterator(strategy, elements)
    losses = [float(function(iterator)["loss"]) for _ in range(settings["steps"])]
    values = {str(i): _first(owner) for i, owner in enumerate(owners)}
    np.savez(directory / "expected.npz", losses=losses, **values)  # type: ignore[arg-type]


if __name__ == "__main__":
    side = {"lower": lowered_side, "keras": keras_side}[sys.argv[1]]
    for folder in map(Path, sys.argv[2:]):
        side(json.loads((folder / "settings.json").read_text(encoding="utf-8")), folder)
