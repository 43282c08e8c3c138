"""The walls of the package: what imports what, what is pinned, what one command does."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tests.conftest import LONGEST

ROOT = pathlib.Path(__file__).parents[1]
# What is ours, beside main.py and the tests themselves.
OWN = ("ifnd_tf", "lowering", "jax_runner", "benchmarks", "tests/system/faults", "tests/system/tpu")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

# A folder imports from the lines above its own; the last line is what no other folder needs.
ORDER = (
    {"errors"},
    {"config"},
    {"distribute", "run"},
    {"clustering", "data"},
    {"models"},
    {"detection", "evaluation", "export", "report"},
    {"training"},
    {"stages"},
    {"command_line"},
    {"api"},
    {"__main__"},
)
# Settings reach the library as named arguments; only the stages and what stands above them know
# the whole `Config`.
READ_CONFIG = {"config", "stages", "api", "command_line"}
# Imported by no line of ours, yet needed: tf.summary's ops live in TensorBoard, and
# tensorflow-datasets imports importlib_resources without declaring it.
INDIRECT = {"tensorboard", "importlib-resources"}
# Imported where a flag asks for them, with an error that says what to install: extras.
OPTIONAL = {"array_record", "keras_hub", "onnx", "pillow_heif", "tf2onnx"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}


def sources(*folders: str) -> list[pathlib.Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: pathlib.Path) -> set[str]:
    """Full names of what a file imports; a name of unknown kind counts as its module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def internal_imports() -> dict[str, set[str]]:
    """Module -> modules of `ifnd_tf` that it imports."""
    files = {module_name(path): path for path in sources("ifnd_tf")}
    del files["ifnd_tf"]  # the front door, which imports what is asked for, when it is
    graph = {}
    for name, path in files.items():
        wanted = {full for full in imports(path) if full.split(".")[0] == "ifnd_tf"}
        # `ifnd_tf.run.lock.alone` is a function of the module `ifnd_tf.run.lock`.
        graph[name] = {full if full in files else full.rpartition(".")[0] for full in wanted}
    return graph


def part(module: str) -> str:
    """`ifnd_tf.models.moco` -> `models`."""
    return module.split(".")[1] if "." in module else ""


def place(folder: str) -> int:
    found = [i for i, folders in enumerate(ORDER) if folder in folders]
    assert found, f"ifnd_tf/{folder} has no place in ORDER: decide what may import it"
    return found[0]


def pinned(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def test_dependencies_point_one_way():
    wrong = []
    for module, imported in internal_imports().items():
        for other in imported:
            if not part(other) or part(module) == part(other):
                continue
            if place(part(other)) >= place(part(module)):
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_module_imports_itself_in_the_end():
    graph = internal_imports()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in graph[module] - {"ifnd_tf"}:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_only_the_top_reads_the_whole_configuration():
    readers = {
        part(module) for module, names in internal_imports().items() if "ifnd_tf.config" in names
    }
    assert readers <= READ_CONFIG


def test_flags_are_read_in_one_place():
    readers = [
        str(path.relative_to(ROOT))
        for path in sources("ifnd_tf")
        if any(name.split(".")[0] in ("absl", "argparse", "main") for name in imports(path))
    ]
    assert readers == ["ifnd_tf/command_line.py"]


def test_a_wheel_holds_every_package_and_the_experiments():
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(re.findall(r'^  "(ifnd_tf[\w.]*)",$', text, re.MULTILINE))
    found = {module_name(path) for path in sources("ifnd_tf") if path.name == "__init__.py"}
    assert listed == found | {"ifnd_tf.experiments"}


def test_imports_bring_no_tensorflow_unasked_read_no_flags_and_start_no_device_work():
    names = [module_name(path) for path in sources("ifnd_tf")]
    program = (
        "import importlib, sys\n"
        "import ifnd_tf\n"
        "dir(ifnd_tf)\n"
        "assert 'tensorflow' not in sys.modules, 'import ifnd_tf alone brought TensorFlow in'\n"
        "import ifnd_tf.stages.watch\n"
        "assert 'tensorflow' not in sys.modules, 'watching a run brought TensorFlow in'\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "from absl import flags\n"
        "assert not flags.FLAGS.is_parsed(), 'something parsed the command line'\n"
        "owners = [m for m in flags.FLAGS.flags_by_module_dict() if m.startswith('ifnd_tf')]\n"
        "assert not owners, owners\n"
        # Refused with a RuntimeError once the devices are initialised.
        "import tensorflow as tf\n"
        "tf.config.threading.set_inter_op_parallelism_threads(1)\n"
        "tf.config.threading.set_intra_op_parallelism_threads(1)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "--no_such_flag"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", sources(*OWN), ids=module_name)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 300


def test_no_file_is_named_for_nothing():
    bad = {"utils", "helpers", "misc", "common", "util", "helper"}
    assert not [path for path in sources(*OWN) if path.stem in bad]


def test_requirements_are_what_is_imported():
    foreign = {
        name.split(".")[0]
        for path in [ROOT / "main.py", *sources("ifnd_tf")]
        for name in imports(path)
    } - {"ifnd_tf", "jax_runner", "main", *sys.stdlib_module_names}
    needed = {DISTRIBUTIONS.get(name, name) for name in foreign - OPTIONAL} | INDIRECT
    assert {requirement.name for requirement in pinned("requirements.txt")} == needed


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "constraints.txt"])
def test_every_python_gets_one_exact_version(name, python):
    versions: dict[str, set[str]] = {}
    for requirement in pinned(name):
        versions.setdefault(requirement.name, set())
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and "*" not in specifier.version
            versions[requirement.name].add(specifier.version)
    assert not {key: found for key, found in versions.items() if len(found) > 1}
    if name != "constraints.txt":  # there some packages are needed by some Pythons only
        assert not {key for key, found in versions.items() if not found}
        agreed = {str(r) for r in pinned("constraints.txt")}
        assert {str(requirement) for requirement in pinned(name)} <= agreed


def clone(tmp_path: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_says_which_python_it_wants(target, tmp_path):
    files = ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt")
    result = subprocess.run(
        ["make", target, "PYTHON=false"],
        cwd=clone(tmp_path, *files),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "Expected Python 3.10, 3.11, 3.12 or 3.13. Tried: false." in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_files_that_begin_first_are_there():
    assert not [name for name in LONGEST if not (ROOT / name).is_file()]


@pytest.mark.parametrize(("code", "closing"), [(0, "2 passed"), (1, "1 failed, 1 passed")])
def test_ci_passes_on_the_exit_code_and_the_closing_line(code, closing, tmp_path):
    line = f"===== {closing} in 0.10s ====="
    (clone(tmp_path, ".ci/run") / "Makefile").write_text(
        f"test:\n\t@echo '{line}'\n\t@echo afterwards; exit {code}\n"
    )
    result = subprocess.run(
        ["bash", ".ci/run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert (result.returncode != 0) == (code != 0)
    assert result.stdout.splitlines()[-1] == line
