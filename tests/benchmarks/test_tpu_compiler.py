"""What needs the environments that `make tpu-check` makes: the TPU's own compiler."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.tpu.environment import ROOT, Environments
from ifnd_tf.errors import UserError

pytestmark = pytest.mark.tpu

SMALL = [
    "--backbone=resnet_small", "--stem=cifar", "--width=4", "--image_size=16",
    "--precision=float32", "--queue_size=256", "--num_clusters=3,5", "--projection_dim=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def environments():
    try:
        return Environments.under(Path(os.environ.get("TPU_ENVIRONMENTS", ROOT / ".venv-tpu")))
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def controls(environments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    environments.run(environments.lowering, "tests.benchmarks.negative_controls", [str(folder)])
    return json.loads((folder / "controls.json").read_text())


def test_the_step_itself_is_lowered(controls):
    assert controls["untouched"] == ""


@pytest.mark.parametrize(
    ("name", "op"),
    [("tf.print", "PrintV2"), ("bicubic", "ResizeBicubic"), ("data-dependent shape", "Where")],
)
def test_a_step_that_no_tpu_can_run_fails_and_names_the_op(controls, name, op):
    assert op in controls[name]


@pytest.fixture(scope="module", params=["shuffle", "sync"])
def compared(request, environments, tmp_path_factory):
    """The lowered module on 8 virtual devices beside Keras under MirroredStrategy."""
    folder = tmp_path_factory.mktemp("numerics")
    settings = {
        "flagfile": "experiments/imagenet_tpu.flags",
        "overrides": [*SMALL, f"--batch_norm={request.param}"],
        "replicas": 8,
        "replica_batch": 8,
        "num_examples": 500,
        "steps": 3,
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    for side, python in (("lower", environments.lowering), ("keras", Path(sys.executable))):
        environments.run(python, "benchmarks.tpu.numerics", [side, str(path), str(folder)])
    environments.run(environments.compiling, "benchmarks.tpu.execute", [str(folder)])
    return json.loads((folder / "result.json").read_text())


def test_the_lowered_step_has_keras_losses(compared):
    # The first step meets an empty queue: its loss is 0 on both sides, the others' are not.
    assert compared["losses"][0] == compared["expected_losses"][0] == 0
    assert min(compared["expected_losses"][1:]) > 0.5
    assert compared["losses"] == pytest.approx(compared["expected_losses"], rel=1e-5)


def test_the_lowered_step_makes_keras_weights(compared):
    moved = 0
    for name, apart, largest in compared["variables"]:
        assert apart <= 1e-5 * largest + 1e-7, name
        moved += largest > 0
    assert moved > 50


def test_all_replicas_hold_the_same_variables(compared):
    assert compared["replicas_equal"]


def test_the_check_compiles_a_small_network_for_v5e(environments, tmp_path):
    """Bounds as measured, with room: 3 MB of weights, a queue and labels in half a gigabyte."""
    results = tmp_path / "tpu.json"
    environments.run(
        Path(sys.executable),
        "benchmarks.tpu",
        [
            "--short",
            "--replica_batch=32",
            f"--json={results}",
            f"--environments={environments.cache.parent}",
        ],
    )
    (found,) = json.loads(results.read_text())["tpus"].values()
    assert found["problems"] == []
    assert set(found["programs"]) == {"train", "tiny", "tiny_plain", "embed", "kmeans"}
    assert found["programs"]["train"]["peak_bytes"] < 5e8
