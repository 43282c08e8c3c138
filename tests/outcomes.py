"""Tiny runs whose outcome must not depend on the strategy: one function, on any number of replicas.

python -m tests.outcomes FOLDER    # a worker of TF_CONFIG; the chief writes FOLDER/VARIANT.npz
"""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.detection import sharded_kmeans
from ifnd_tf.distribute import strategies
from ifnd_tf.run.checkpoints import CheckpointStore
from tests import corners, tiny
from tests.conftest import once

VARIANTS = {
    "moco-eliminate": {"framework": "moco", "treatment": "eliminate"},
    "simclr-attract": {"framework": "simclr", "treatment": "attract"},
    # Every rule that keeps something for each example.
    "moco-state": {"treatment": "fnc:views=2:threshold=0.2,hcsc,glofnd:start=0:alpha=0.3"},
    # With seed 0 a ReLU's input is so near 0 that rounding decides: with softplus instead,
    # velocities agree to 7e-7, else to 1e-4.
    "moco-keys": {"detect_with": "keys", "num_clusters": "4,8", "seed": 1},
    "simclr-keys": {"framework": "simclr", "detect_with": "keys"},
}
# What several replicas are told besides: with five steps an epoch, an epoch is one call.
SPLIT = {name: {"steps_per_execution": 5 if "simclr" in name else 1} for name in VARIANTS}
# What two processes run of it, whose collectives are all that differs from two replicas.
WORKERS = ("moco-eliminate", "simclr-keys")

State = dict[str, np.ndarray]


def outcome(
    variant: str, strategy: tf.distribute.Strategy, path, progress=None, **overrides
) -> State:
    """What a tiny run ends with: 5 steps, one refresh, 5 steps.

    Weights, velocities, queue, labels, clusters and, per epoch, losses and masked shares.
    """
    config = tiny.config(**VARIANTS[variant], **overrides)
    # 5 steps of 32: some images have no key yet. Not by smaller batches, whose statistics
    # amplify rounding five times as much.
    data = tiny.splits(184 if config.detect_with == "keys" else 160)
    model, run = tiny.train(config, strategy, path, data, progress)
    state = {
        "encoder": _joined(model.encoder.variables),
        "projector": _joined(model.projector.variables),
        "velocities": _joined(
            v
            for v in model.optimizer.variables
            if v.dtype == "float32" and "learning_rate" not in v.path
        ),
        "pseudo_labels": model.pseudo_labels.numpy(),
    }
    state |= {name: value.numpy() for name, value in model.rule_state.items()}
    if config.framework == "moco":
        state["queue"] = model.queue.numpy()
        state["queue_index"] = model.queue_index.numpy()
    if config.detect_with == "keys":
        state["memory"] = model.memory.numpy()
    if not strategies.is_chief(strategy):
        return state
    records = run.metrics()
    state["epochs"] = np.array([record["epoch"] for record in records])
    state["losses"] = np.array([record["loss"] for record in records])
    state["masked_shares"] = np.array([record["masked_share"] for record in records])
    store = CheckpointStore(run.file("checkpoints"))
    saved = tf.train.load_checkpoint(store.prefix(store.latest()))
    for name in saved.get_variable_to_shape_map():
        if "_centroids" in name:
            state["centroids" + name.split("_centroids")[1].split("/.")[0]] = saved.get_tensor(name)
    return state


def _joined(variables) -> np.ndarray:
    return np.concatenate([variable.numpy().ravel() for variable in variables])


def alone(variant: str, shared: pathlib.Path) -> State:
    """The outcome on one replica, worked out once a session; its run is in `shared`/VARIANT."""

    def make(path: pathlib.Path) -> None:
        state = outcome(variant, tf.distribute.get_strategy(), path)
        np.savez(path.with_suffix(".npz"), **state)

    path = once(shared / variant, make)
    with np.load(path.with_suffix(".npz")) as state:
        return dict(state)


def assert_same(found: State, expected: State) -> None:
    """Integers equal, floats within 2e-5 of the largest of their kind.

    Sums in another order differ in their last bits, and ten steps amplify that: a last bit of the
    initial weights alone ends as 1e-6 to 2e-6 of the largest. Measured: 1e-6 to 1.5e-5.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype.kind in "iu":
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            # A mean of the replicas' ratios, not the ratio of all: own keys are not spread evenly.
            close = 1e-3 if name == "masked_shares" else 2e-5
            np.testing.assert_allclose(
                found[name], value, rtol=close, atol=close * np.abs(value).max(), err_msg=name
            )


def _work(folder: pathlib.Path) -> None:
    strategy = strategies.make_strategy("multiworker")
    known = strategies.workers(strategy)
    np.savez(
        folder / f"joined{known.index}.npz",
        count=known.count,
        joined=known.gather(np.array([known.index, 7], np.int32)),
        any=known.any([known.index == 1, False]),
    )
    # A directory for each worker, to see who writes.
    own = folder / f"worker{json.loads(os.environ['TF_CONFIG'])['task']['index']}"
    for variant in WORKERS:
        state = outcome(variant, strategy, own / variant, **SPLIT[variant])
        if strategies.is_chief(strategy):
            np.savez(folder / f"{variant}.npz", **state)
    _cluster_in_little_memory(folder, strategy, known)


def _cluster_in_little_memory(
    folder: pathlib.Path, strategy: tf.distribute.Strategy, known: strategies.Workers
) -> None:
    """Clusters where one of the workers has memory for 13 rows; leaves what each has found."""
    said: list[str] = []
    clusters = corners.sharded_kmeans(strategy, report=said.append)
    clusters.table.refresh()
    start = tf.constant(corners.embed(corners.images())[:12])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_kmeans, "LEAST_CHUNK", 2)
        if known.index == 1:
            corners.scarce(patch, most=13)
        found = clusters.cluster(12, start)
    np.savez(
        folder / f"scarce{known.index}.npz",
        assignments=found.assignments,
        confidence=found.confidence,
        said=said,
    )


if __name__ == "__main__":
    _work(pathlib.Path(sys.argv[1]))
