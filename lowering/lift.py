"""Brings a lowered run's weights back into its Keras model, as a checkpoint of main.py.

    python -m lowering.lift DIR runs/NAME
    python main.py --flagfile=runs/NAME/config.flags --workdir=runs/NAME --mode=export,report

DIR is what lowering wrote, runs/NAME what jax_runner made of it; of a run that came from an
accelerator without its state, the files runs/NAME.weights.*.npz beside it are read. After this
the stages of main.py that read a trained model work: export, evaluate, report. The weights come
back, not the whole state: training continues with jax_runner alone.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import main as entry
from ifnd_tf.errors import UserError
from ifnd_tf.models.contrastive import ContrastiveModel
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.stages import build
from jax_runner.artifact import Artifact
from jax_runner.run_directory import STATE, read_state, read_weights, weight_files
from lowering.programs import variables


def model_of(artifact: Artifact, arrays: dict[str, Any]) -> ContrastiveModel:
    """The run's model with a state's values.

    Args:
        artifact: gives flags and sizes.
        arrays: by the variables' numbers in the manifest; other variables keep their first values.
    """
    manifest = artifact.manifest
    config = entry.parse([f"--{name}={value}" for name, value in manifest["flags"].items()])
    assert config is not None
    model = build.model(
        config,
        tf.distribute.get_strategy(),
        num_examples=manifest["data"]["train"],
        steps_per_epoch=manifest["steps_per_epoch"],
    )
    sharded = artifact.sharded_state()
    for number, variable in enumerate(variables(model)):
        if str(number) in arrays:
            value = arrays[str(number)]
            if sharded[number]:
                value = _on_one_device(value, artifact)
            variable.assign(tf.cast(value, variable.dtype))
    return model


def _on_one_device(rows: np.ndarray, artifact: Artifact) -> np.ndarray:
    """A memory bank's rows of all devices as those of one; each part ends with a spare row."""
    parts = [part[:-1] for part in np.split(rows, artifact.num_devices)]
    kept = np.concatenate(parts)[: artifact.manifest["data"]["train"]]
    return np.pad(kept, [(0, 1), (0, 0)])


def lift(artifact: Artifact, folder: Path) -> int:
    """Writes `folder`/checkpoints from its state file; returns the steps done.

    Raises:
        UserError: there is no state, or it belongs to another manifest.
    """
    if (folder / STATE).exists() or not weight_files(folder):
        arrays, notes = read_state(folder / STATE, artifact.digest)
        step = notes["step"]
    else:
        arrays = read_weights(folder)
        step = artifact.manifest["steps_per_epoch"] * artifact.manifest["settings"]["epochs"]
    checkpoint = tf.train.Checkpoint(model=model_of(artifact, arrays))
    snapshot = Snapshot.take(step, checkpoint, {"lifted": True})
    CheckpointStore(str(folder / "checkpoints")).write(snapshot)
    snapshot.drop()
    return step


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("artifact", type=Path, metavar="DIR", help="what lowering wrote")
    parser.add_argument("workdir", type=Path, help="the run directory of jax_runner")
    options = parser.parse_args(arguments)
    try:
        steps = lift(Artifact(options.artifact), options.workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.workdir}/checkpoints: the weights after {steps} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
