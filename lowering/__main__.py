r"""Lowers a run to a folder that trains wherever XLA runs, without TensorFlow.

    python -m lowering --flagfile=experiments/cifar10.flags \
        --dataset=folder:data/cifar10 --out=DIR

Takes main.py's flags besides its own; with --mode=compare every run of the comparison gets a
folder in DIR. `jax_runner` runs the result; `lowering.lift` brings the weights back.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import main as entry
from ifnd_tf.config import Config
from ifnd_tf.data import datasets
from ifnd_tf.errors import UserError
from ifnd_tf.stages import (
    build,
    build_detection,
    compare_variants,
    initial_weights,
    open_data,
    sizes,
)
from lowering import programs, stablehlo, strategy, write
from lowering.functional import LoweringError

_KNOWN = {
    "detector": ("none", "ifnd", "oracle", "random"),
    "detect_with": ("encoder", "keys"),
    "hierarchy": ("independent",),
    "infeed_dtype": ("uint8",),
    "precision": ("float32", "mixed_bfloat16"),
    "teacher": ("",),
}


def check(config: Config) -> None:
    """Raises `UserError` for settings that a lowered run does not have."""
    for name, known in _KNOWN.items():
        if getattr(config, name) not in known:
            wanted = " or ".join(filter(None, known)) or "none"
            raise UserError(
                f"--{name}: expected {wanted} of a lowered run. Received: "
                f"{getattr(config, name)}; main.py has it."
            )


def write_data(path: Path, splits: datasets.Splits) -> None:
    """The images as the runner reads them."""
    arrays: dict[str, Any] = {}
    for name, source in zip(("train", "test"), splits, strict=True):
        if source is not None:
            arrays[f"{name}_images"] = np.asarray(source.pixels)
            arrays[f"{name}_labels"] = source.labels
    np.savez(path, **arrays)


def lower(
    config: Config,
    splits: datasets.Splits,
    folder: Path,
    initial: Path | None = None,
    devices: int = 1,
) -> int:
    """Writes everything to `folder`, or the first values to `initial`; returns the bytes."""
    check(config)
    replicas = strategy.make(devices)
    data = programs.sizes(config, *splits)
    steps = sizes.steps_per_epoch(config, splits.train)
    model = build.model(
        config, replicas, num_examples=data.train, steps_per_epoch=steps,
        true_labels=splits.train.labels, start=initial_weights.starter(config),
    )  # fmt: skip
    detector = build_detection.make_detector(config, replicas, model, splits.train)
    lowered = programs.all_programs(config, model, data)
    if "few_labels" in config.protocol_names and data.test:
        write.write_label_subsets(folder, config, splits.train.labels)
    return write.write(folder, config, model, detector, lowered, data, steps, initial)


def lower_all(config: Config, splits: datasets.Splits, folder: Path, devices: int = 1) -> int:
    """Lowers the run, or every run of a comparison, each to a folder of its own; returns the bytes.

    The folders are called as main.py calls the comparison's run directories, so that
    `jax_runner` runs them all by one command, and main.py's --mode=compare reads them.
    """
    if "compare" not in config.stages:
        return lower(config, splits, folder, devices=devices)
    size = 0
    for member in compare_variants.members(config):
        name = f"{member.variant}-{member.number}"
        # Runs of one seed start from the same values.
        size += lower(member.config, splits, folder / name, folder / write.INITIAL_NAME, devices)
        keras.utils.clear_session()
    size += (folder / write.INITIAL_NAME).stat().st_size
    write.write_runner(folder / write.RUNNER_NAME)
    return size


def lower_clustering(shape: str, folder: Path, devices: int = 1) -> None:
    """One k-means iteration at a size of its own, which `jax_runner` times."""
    try:
        count, width, clusters = (int(part) for part in shape.split("x"))
    except ValueError:
        raise UserError(
            f"--kmeans: expected NxDxK, such as 1280000x128x10000. Received: {shape!r}."
        ) from None
    replicas = strategy.make(devices)
    points = programs.points(replicas, count, width)
    program = programs.clustering(replicas, 1, 0.2, clusters, points)
    write.write_benchmark(folder, program, devices)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--write_data", type=Path, help="also write the images, as FILE.npz")
    parser.add_argument(
        "--kmeans", metavar="NxDxK", default="", help="lower a k-means iteration of this size alone"
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="devices that train together, R >= 1; default: 1"
    )
    own, rest = parser.parse_known_args(arguments)
    try:
        if own.devices < 1:
            raise UserError(f"--devices: expected a number from 1. Received: {own.devices}.")
        if own.kmeans:
            lower_clustering(own.kmeans, own.out, own.devices)
            return 0
        config = entry.parse(rest)
        if config is None:
            return 0
        config, splits = open_data.decoded(config)
        size = lower_all(config, splits, own.out, own.devices)
        if own.write_data is not None:
            write_data(own.write_data, splits)
    except (UserError, LoweringError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{own.out}: {size / 1e6:.1f} MB of StableHLO {stablehlo.VERSION}, state and runner")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
