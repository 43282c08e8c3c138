"""What needs the environments that `make tpu-check` makes: the TPU's own compiler."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ifnd_tf.errors import UserError
from tests.system.tpu.environment import ROOT, Environments

pytestmark = pytest.mark.tpu

SMALL = [
    "--backbone=resnet_small", "--stem=cifar", "--width=4", "--image_size=16",
    "--precision=float32", "--queue_size=256", "--num_clusters=3,5", "--projection_dim=16",
]  # fmt: skip
POLICIES = ["shuffle", "sync"]


# Beside another worker of pytest, one process at a time leaves that one its core.
JOBS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2


def traced(environments, folder):
    """What `tests.system.traced` found."""
    environments.run(environments.lowering, "tests.system.traced", [str(folder)])
    losses = environments.compile(folder / "losses.mlir", "v5e-8", "O0")
    return json.loads((folder / "traced.json").read_text()) | {"losses": losses}


def compared(environments, folder):
    """The lowered module on 4 virtual devices beside Keras under MirroredStrategy."""
    folders = {policy: folder / policy for policy in POLICIES}
    for policy, each in folders.items():
        settings = {
            "flagfile": "experiments/imagenet_tpu.flags",
            "overrides": [*SMALL, f"--batch_norm={policy}"],
            "replicas": 4,
            "replica_batch": 8,
            "num_examples": 500,
            "steps": 3,
        }
        each.mkdir()
        (each / "settings.json").write_text(json.dumps(settings))
    paths = [str(each) for each in folders.values()]
    for side, python in (("lower", environments.lowering), ("keras", Path(sys.executable))):
        environments.run(python, "tests.system.tpu.numerics", [side, *paths])
    environments.run(environments.compiling, "tests.system.tpu.execute", paths)
    return {p: json.loads((each / "result.json").read_text()) for p, each in folders.items()}


def checked(environments, folder):
    """The report of `python -m tests.system.tpu --short`."""
    arguments = [
        "--short",
        "--replica_batch=32",
        f"--jobs={JOBS}",
        f"--json={folder / 'tpu.json'}",
        f"--environments={environments.cache.parent}",
    ]
    environments.run(Path(sys.executable), "tests.system.tpu", arguments)
    return json.loads((folder / "tpu.json").read_text())["tpus"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Futures of all that the environments are asked: one process a core that is free."""
    try:
        environments = Environments.under(
            Path(os.environ.get("TPU_ENVIRONMENTS", ROOT / ".venv-tpu"))
        )
    except UserError as error:
        pytest.skip(str(error))

    def folder(name):
        return tmp_path_factory.mktemp(name)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(JOBS) as pool:
        patch.delenv("XLA_FLAGS", raising=False)  # compiled as for a real run
        yield {
            "numerics": pool.submit(compared, environments, folder("numerics")),
            "traced": pool.submit(traced, environments, folder("traced")),
            "check": pool.submit(checked, environments, folder("check")),
        }


@pytest.mark.parametrize("name", ["untouched", "attract", "fnc", "simclr", "keys", "evaluation"])
def test_the_projects_own_steps_are_lowered(results, name):
    assert results["traced"].result()["errors"][name] == ""


def test_the_loss_is_compiled_with_every_rule_and_a_teacher(results):
    found = results["traced"].result()["losses"]
    assert found["error"] == "" and not found["host_transfers"] and found["flops"] > 0


@pytest.mark.parametrize(
    ("name", "op"),
    [("tf.print", "PrintV2"), ("bicubic", "ResizeBicubic"), ("data-dependent shape", "Where")],
)
def test_a_step_that_no_tpu_can_run_fails_and_names_the_op(results, name, op):
    assert op in results["traced"].result()["errors"][name]


def test_several_steps_a_call_run_the_same_ops_in_a_loop(results):
    found = results["traced"].result()
    assert found["loop"] == found["last"] and sum(found["last"].values()) > 1000


@pytest.fixture(params=POLICIES)
def numerics(request, results):
    return results["numerics"].result()[request.param]


def test_the_lowered_step_has_keras_losses(numerics):
    # The first step meets an empty queue: its loss is 0, up to rounding, the others' are not.
    assert numerics["expected_losses"][0] == pytest.approx(0, abs=1e-6)
    assert min(numerics["expected_losses"][1:]) > 0.5
    assert numerics["losses"] == pytest.approx(numerics["expected_losses"], rel=1e-5, abs=1e-6)


def test_the_lowered_step_makes_keras_weights(numerics):
    moved = 0
    for name, apart, largest in numerics["variables"]:
        assert apart <= 1e-5 * largest + 1e-7, name
        moved += largest > 0
    assert moved > 50


def test_all_replicas_hold_the_same_variables(numerics):
    assert numerics["replicas_equal"]


def test_the_check_compiles_a_small_network_for_v5e(results):
    """Bounds as measured, with room: 3 MB of weights, a queue and labels in half a gigabyte."""
    (found,) = results["check"].result().values()
    assert found["problems"] == []
    assert set(found["programs"]) == {"train", "embed", "kmeans"}
    assert found["programs"]["train"]["peak_bytes"] < 5e8
