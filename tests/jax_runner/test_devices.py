"""A lowered run on several devices against MirroredStrategy's replicas."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from ifnd_tf.clustering.kmeans import kmeans
from ifnd_tf.errors import UserError
from jax_runner.artifact import Artifact
from jax_runner.run_directory import read_state
from lowering import __main__ as lower
from lowering import lift, programs, strategy, write
from tests.jax_runner import mirrored
from tests.jax_runner.processes import ROOT, needs_jax, python, refuses, run_lowered

pytestmark = [pytest.mark.lowered, needs_jax]

# What a device holds of sharded arrays, and k-means of them, on devices 1 and 0 of two.
SHARDED = """
import pathlib, sys
import jax, numpy as np
from jax_runner.artifact import Artifact
from jax_runner.devices import chosen, join
from jax_runner.images import Images

folder = pathlib.Path(sys.argv[1])
devices = chosen("1,0", 2, None)
given = np.load(folder / "given.npz")
pixels = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
images = Images(devices.deal(pixels), np.zeros(5, np.int32), devices)
first, second = (np.asarray(part.data) for part in images.pixels.addressable_shards)
assert {part.device.id for part in images.pixels.addressable_shards} == {0, 1}
rows = np.array([4, 0, 3, 3])
np.testing.assert_array_equal(images.take(rows), pixels[rows])
joined = np.asarray(join(devices, list(images.own_batches(4)), 3))
np.testing.assert_array_equal(joined, pixels[[0, 1, 2, 3, 4, 4]])

points = devices.put(given["points"], sharded=True)
index = devices.put(given["index"], sharded=True)
program = Artifact(folder).compile("kmeans", devices)
found = program([], points=points, index=index, centroids=given["centroids"])
assert found["assignments"].sharding.shard_shape((102,)) == (51,)
np.savez(folder / "found.npz", **{name: np.asarray(value) for name, value in found.items()})
"""


@pytest.mark.slow
def test_k_means_of_two_devices_is_that_of_one(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(101, 6)).astype(np.float32) + 2 * np.eye(6)[rng.integers(0, 6, 101)]
    points = points.astype(np.float32)
    start, index = points[:8], np.arange(101, dtype=np.int32)
    two = strategy.make(2)
    program = programs.clustering(two, 5, 0.2, 8, programs.points(two, 101, 6))
    write.write_benchmark(tmp_path, program, 2)
    np.savez(
        tmp_path / "given.npz",
        points=np.pad(points, [(0, 1), (0, 0)]), index=np.append(index, -1).astype(np.int32),
        centroids=start,
    )  # fmt: skip
    done = python("-c", SHARDED, tmp_path, devices=2)
    assert done.returncode == 0, done.stderr
    expected = kmeans(points, index, start, num_iterations=5, confidence_temperature=0.2)
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(found["assignments"][:101], expected.assignments)
    np.testing.assert_array_equal(found["counts"], expected.counts)
    for name in ("centroids", "confidence", "inertia"):
        ours = found[name][:101] if name == "confidence" else found[name]
        np.testing.assert_allclose(ours, getattr(expected, name), rtol=1e-5, atol=1e-5)
    assert found["assignments"][101] == -1


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
    with pytest.raises(UserError, match="a multiple of the 3 replicas"):
        lower.lower(mirrored.config({}), mirrored.splits(), tmp_path, devices=3)


def lowered(folder: pathlib.Path, overrides: dict, devices: int) -> pathlib.Path:
    config, splits = mirrored.config(overrides), mirrored.splits()
    lower.lower(config, splits, folder, devices=devices)
    lower.write_data(folder / "data.npz", splits)
    return folder


def single(means: np.ndarray) -> np.ndarray:
    """Each step's own loss, from the running means of epochs of six steps."""
    return np.diff(np.reshape(means, [-1, 6]) * np.arange(1, 7), axis=1, prepend=0.0).ravel()


def query_weights(folder: pathlib.Path, run: pathlib.Path) -> list[np.ndarray]:
    artifact = Artifact(folder)
    arrays, _ = read_state(run / "state.npz", artifact.digest)
    return [arrays[str(number)] for number in artifact.manifest["query"]]


@pytest.fixture(scope="module")
def for_four(tmp_path_factory) -> pathlib.Path:
    """A run that is lowered for four devices."""
    return lowered(tmp_path_factory.mktemp("four"), {}, 4)


def compare(folder: pathlib.Path, tmp_path: pathlib.Path, overrides: dict, devices: int) -> None:
    """Trains on both sides; losses, labels and weights must agree."""
    run = tmp_path / "run"
    done = run_lowered(folder, run, f"--losses={tmp_path / 'losses.npy'}", devices=devices)
    assert done.returncode == 0, done.stderr
    assert f"on {devices} x cpu" in done.stdout
    (tmp_path / "overrides.json").write_text(json.dumps(overrides))
    module = ("tests.jax_runner.mirrored", devices, tmp_path, tmp_path / "overrides.json")
    subprocess.run([sys.executable, "-m", *map(str, module)], cwd=ROOT, check=True)

    with np.load(tmp_path / "mirrored.npz") as expected:
        ours, theirs = single(np.load(tmp_path / "losses.npy")), single(expected["losses"])
        assert len(ours) == len(theirs) == 24
        # Before the refresh nothing differs but rounding; the first queue is empty.
        np.testing.assert_allclose(ours[:12], theirs[:12], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours[12:], theirs[12:], rtol=1e-3)
        weights = query_weights(folder, run)
        for number, ours in enumerate(weights):
            np.testing.assert_allclose(ours, expected[f"weights_{number}"], rtol=1e-3, atol=1e-4)
    for epoch in ("0002", "0003"):
        labels = [
            np.load(path / "detection" / f"{epoch}.npz")["labels"]
            for path in (run, tmp_path / "mirrored")
        ]
        # A few embeddings are nearly as near to another centroid.
        assert np.mean(labels[0] == labels[1]) > 0.98, epoch
        assert np.mean(labels[0] >= 0) > 0.9


@pytest.mark.slow
@pytest.mark.distribution
def test_two_devices_train_as_two_replicas_with_kept_keys(tmp_path):
    kept_keys = {"detect_with": "keys"}
    folder, run = lowered(tmp_path / "lowered", kept_keys, 2), tmp_path / "run"
    compare(folder, tmp_path, kept_keys, 2)
    artifact = Artifact(folder)
    arrays, _ = read_state(run / "state.npz", artifact.digest)
    # Each device keeps its examples' keys, and a row that is nobody's.
    assert arrays[str(artifact.sharded_state().index(True))].shape == (2 * (200 + 1), 8)
    # Back in a Keras model of one device.
    kept = lift.model_of(artifact, arrays).memory.numpy()
    with np.load(tmp_path / "mirrored.npz") as expected:
        np.testing.assert_allclose(kept, expected["kept"], rtol=1e-3, atol=1e-3)
    assert 0.9 < kept.any(axis=1).mean() <= 1

    # One step, and the rest: the same numbers.
    parts = tmp_path / "parts"
    stopped = run_lowered(folder, parts, "--minutes=0", devices=2)
    assert "after 1 of 24 steps" in stopped.stdout, stopped.stderr
    assert run_lowered(folder, parts, "--devices=1,0", devices=2).returncode == 0
    for ours, theirs in zip(query_weights(folder, parts), query_weights(folder, run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.distribution
def test_four_devices_train_as_four_replicas(for_four, tmp_path):
    compare(for_four, tmp_path, {}, 4)
    refuses(
        run_lowered(for_four, tmp_path / "few", devices=2),
        "--devices", "4 devices", "has 2", "lower the run again",
    )  # fmt: skip
    for numbers in ("0", "0,1,2,2", "0,1,2,4", "all"):
        flag = f"--devices={numbers}"
        done = run_lowered(for_four, tmp_path / "few", flag, devices=4)
        refuses(done, "--devices: expected 4 of the numbers 0 to 3", f"Received: {numbers};")


# The runner's own compilation, for devices that are not there.
FOR_A_TPU = """
import os, pathlib, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jax.experimental import topologies
from jax_runner.artifact import Artifact
from jax_runner.devices import Devices, taking

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
devices = Devices(devices, memory_bytes=16 * 2**30)
assert str(devices) == "4 x TPU v5 lite"
artifact = Artifact(pathlib.Path(sys.argv[1]))
for name in artifact.manifest["programs"]:
    text = artifact.compile(name, devices)._compiled.as_text()
    print(name, text.count(" all-reduce("))
pixels = devices.spec((50, 8, 8, 3), np.uint8, sharded=True)
taking(devices).lower(pixels, devices.spec((4,), np.int32, sharded=True)).compile()
"""


@pytest.mark.slow
@pytest.mark.tpu
def test_the_runner_compiles_for_the_four_chips_of_a_tpu_host(for_four, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    done = python("-c", FOR_A_TPU, for_four)
    assert done.returncode == 0, done.stderr
    reductions = {name: int(n) for name, n in (x.split() for x in done.stdout.splitlines())}
    assert {name for name, n in reductions.items() if n} == {"train", "seeds_10", "kmeans_10"}
    assert set(reductions) > {"embed", "features", "knn"}
