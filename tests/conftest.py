"""What every test shares: four CPU devices, fixed seeds, and strategies to run under."""

import fcntl
import gc
import os
import pathlib
import socket
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The tests are about CPU devices; a GPU would be claimed whole by each process.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# XLA's own passes as users have them, without LLVM's: a tenth of the suite's time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import hypothesis
import keras
import pytest
import tensorflow as tf

# The same examples in every run, so that none of them is slow or fails by chance.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")

NUM_DEVICES = 4


def pytest_configure(config):
    gc.set_threshold(50_000, 10, 10)  # as the command line has it
    # Only possible before TensorFlow first touches a device, so once for all tests.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES,
    )


# The files that take longest, the longest first, so that none of them begins last: workers of
# pytest-xdist take whole files, in this order (--dist loadfile --no-loadscope-reorder).
LONGEST = (
    "tests/models/treatments/test_all.py",
    "tests/stages/test_initial_weights.py",
    "tests/system/test_tpu_compiler.py",
    "tests/jax_runner/test_jax_runner.py",
    "tests/stages/test_train.py",
    "tests/stages/test_other_encoders.py",
    "tests/jax_runner/test_devices.py",
    "tests/system/test_workers.py",
    "tests/data/test_tfds.py",
    "tests/data/test_data_service.py",
    "tests/training/test_step_on_replicas.py",
    "tests/stages/test_compare_tuning.py",
    "tests/test_experiments.py",
    "tests/stages/test_compare_workers.py",
    "tests/data/test_train_batches.py",
    "tests/clustering/test_kmeans.py",
    "tests/test_examples.py",
    "tests/system/test_faults.py",
    "tests/stages/test_run.py",
    "tests/stages/test_embed.py",
    "tests/data/test_kept_images.py",
    "tests/system/test_survival.py",
    "tests/test_main.py",
    "tests/run/test_image_messages.py",
    "tests/system/test_fuzzing.py",
    "tests/detection/test_sharded_kmeans.py",
    "tests/stages/test_check_advice.py",
    "tests/data/test_parquet.py",
    "tests/stages/test_compare.py",
    "tests/export/test_saved_model.py",
    "tests/detection/test_embeddings.py",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def what_stays():
    """Leaves what outlives a file, such as graphs that TensorFlow keeps, out of collections.

    Each search for garbage would go through all of it: in the end two seconds a time.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeds():
    """Every test starts from the same random state, whichever ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def logical_devices() -> list[str]:
    """The names of the logical CPU devices."""
    return [f"CPU:{i}" for i in range(NUM_DEVICES)]


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
    """A folder of this session that its processes share, for `once`."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(folder: pathlib.Path, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """The folder, filled by `make` in the first process that asks; others wait for it."""
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


def free_ports(count: int) -> list[int]:
    """Ports of this machine at which nobody listens."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


_strategies: dict[str, tf.distribute.Strategy] = {}


def make_strategy(name: str) -> tf.distribute.Strategy:
    """`default`, or `mirrored-R` over R logical CPU devices; one object per name."""
    if name not in _strategies:
        if name == "default":
            _strategies[name] = tf.distribute.get_strategy()
        else:
            replicas = int(name.removeprefix("mirrored-"))
            # Each strategy numbers its collectives from the same base, and a number that was
            # used by 2 devices may not be used by 4: TensorFlow's own tests do this as well.
            tf.distribute.MirroredStrategy._collective_key_base += 100_000
            _strategies[name] = tf.distribute.MirroredStrategy(
                [f"CPU:{i}" for i in range(replicas)]
            )
    return _strategies[name]


@pytest.fixture(
    params=[
        "default",
        pytest.param("mirrored-2", marks=pytest.mark.distribution),
        pytest.param("mirrored-4", marks=[pytest.mark.distribution, pytest.mark.slow]),
    ]
)
def strategy(request) -> tf.distribute.Strategy:
    """Runs the test under 1 and 2 replicas, and under 4 among the slow tests."""
    return make_strategy(request.param)
