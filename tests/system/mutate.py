"""Mutation score: the share of small random faults in the method's code that the tests notice.

    python -m tests.system.mutate --count=60 --seed=0 --jobs=2
    python -m tests.system.mutate --only=clustering --json=mutants.json

Each mutant changes one operator or one constant of one file, in a copy of the working tree. The
folder's own tests run first, then the wider ones; a mutant that passes both survives.
"""

import argparse
import ast
import concurrent.futures
import copy
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Part(NamedTuple):
    """Code to mutate and the tests that ought to notice.

    Attributes:
        code: globs of source files.
        own, wider: globs of test files or folders; `wider` runs if `own` notices nothing.
    """

    code: tuple[str, ...]
    own: tuple[str, ...]
    wider: tuple[str, ...]


_RUNS = ("tests/stages/test_train*.py", "tests/training/test_*.py")
PARTS = {
    "clustering": Part(
        ("ifnd_tf/clustering/*.py",), ("tests/clustering",), ("tests/detection", *_RUNS)
    ),
    "detection": Part(("ifnd_tf/detection/**/*.py",), ("tests/detection",), _RUNS),
    "models": Part(
        ("ifnd_tf/models/*.py",), ("tests/models",), ("tests/distribute", "tests/test_exp*", *_RUNS)
    ),
    "crops": Part(
        tuple(f"ifnd_tf/data/{name}.py" for name in ("crops", "photometric", "recipes")),
        tuple(f"tests/data/test_{name}.py" for name in
              ("crops", "photometric", "recipes", "simclr_views", "train_batches")),
        ("tests/data", *_RUNS),
    ),
    "schedules": Part(
        ("ifnd_tf/detection/schedule.py", "ifnd_tf/training/learning_rate.py"),
        ("tests/detection/test_schedule.py", "tests/training/test_learning_rate.py"),
        ("tests/detection", "tests/models", *_RUNS),
    ),
}  # fmt: skip
# Architectures are Keras' or He et al.'s: their sizes are tables, not decisions of the method.
LEFT_OUT = {"resnet.py", "backbones.py", "keras_hub_networks.py"}
SECONDS = 600.0

_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_NAMES = {
    "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min",
    "argmin": "argmax", "argmax": "argmin", "reduce_min": "reduce_max", "reduce_max": "reduce_min",
    "reduce_any": "reduce_all", "reduce_all": "reduce_any", "floor": "ceil", "ceil": "floor",
    "logical_and": "logical_or", "logical_or": "logical_and", "any": "all", "all": "any",
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file: `before` on `line` becomes `after`."""

    part: str
    path: str
    line: int
    before: str
    after: str
    source: str


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The mutations of one node."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare):
        if swap := _SWAPS.get(type(new.ops[0])):
            new.ops[0] = swap()
            yield new
    elif isinstance(new, (ast.BoolOp, ast.BinOp, ast.AugAssign)):
        # "%" and "+" of texts are left alone, as are the unions of types.
        texts = any(isinstance(each, (ast.JoinedStr, ast.Constant)) and _is_text(each)
                    for each in ast.walk(new))  # fmt: skip
        if (swap := _SWAPS.get(type(new.op))) and not texts:
            new.op = swap()
            yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub)):
        yield new.operand
    elif isinstance(new, ast.Constant):
        if isinstance(new.value, bool):
            new.value = not new.value
            yield new
        elif isinstance(new.value, (int, float)):
            for step in (1, -1):
                yield ast.Constant(new.value + step)
    elif isinstance(new, ast.Attribute) and new.attr in _NAMES:
        new.attr = _NAMES[new.attr]
        yield new
    elif isinstance(new, ast.Name) and new.id in _NAMES:
        new.id = _NAMES[new.id]
        yield new


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _expressions(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node outside annotations and texts, as (parent, field, index in it, node)."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "names"):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.JoinedStr) or not isinstance(node, ast.AST):
                continue
            yield tree, name, index, node
            yield from _expressions(node)


def mutants(part: str) -> list[Mutant]:
    """Every mutant of a part, in the order of its files."""
    found = []
    paths = {path for pattern in PARTS[part].code for path in ROOT.glob(pattern)}
    for path in sorted(path for path in paths if path.name not in LEFT_OUT):
        tree = ast.parse(path.read_text())
        for parent, name, index, node in list(_expressions(tree)):
            for new in changed(node):
                _place(parent, name, index, new)
                found.append(
                    Mutant(
                        part, str(path.relative_to(ROOT)), getattr(node, "lineno", 0),
                        ast.unparse(node), ast.unparse(new), ast.unparse(tree),
                    )
                )  # fmt: skip
                _place(parent, name, index, node)
    assert found, f"no code is left to mutate in {part}"
    return found


def _place(parent: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def drawn(parts: list[str], count: int, seed: int) -> list[Mutant]:
    """Mutants at random, as many of each part, no line twice."""
    draw, found = random.Random(seed), []
    for number, part in enumerate(parts):
        wanted = count * (number + 1) // len(parts) - count * number // len(parts)
        taken: dict[tuple[str, int], Mutant] = {}
        for mutant in draw.sample(pool := mutants(part), len(pool)):
            taken.setdefault((mutant.path, mutant.line), mutant)
        found += list(taken.values())[:wanted]
    return found


def copied(folder: pathlib.Path) -> pathlib.Path:
    """A copy of the working tree's files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def noticed(tree: pathlib.Path, mutant: Mutant) -> str:
    """The test that fails on the mutant, or "" if all pass."""
    path = tree / mutant.path
    path.write_text(mutant.source)
    try:
        for patterns in PARTS[mutant.part][1:]:
            tests = sorted(
                {str(each.relative_to(tree)) for glob in patterns for each in tree.glob(glob)},
                key=lambda name: path.stem not in name,
            )
            if found := _failure(tree, tests, path.stem):
                return found
        return ""
    finally:
        shutil.copy(ROOT / mutant.path, path)


def _failure(tree: pathlib.Path, tests: list[str], stem: str) -> str:
    # The file's own test comes first, as it is the likeliest to fail.
    first = [str(p.relative_to(tree)) for t in tests for p in (tree / t).glob(f"**/test_{stem}.py")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *first, *tests],
        cwd=tree, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"stopped after {SECONDS:.0f} s"
    if process.returncode == 0:
        return ""
    failed = [x for x in output.splitlines() if x.startswith(("FAILED", "ERROR"))]
    return failed[0][:160] if failed else output[-400:]


def main() -> int:
    """Draws the mutants, tests each, prints the survivors and the score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="Mutants in all.")
    parser.add_argument("--seed", type=int, default=0, help="Of the draw.")
    parser.add_argument("--jobs", type=int, default=1, help="Mutants tested at a time.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"Of {', '.join(PARTS)}.")
    parser.add_argument("--json", default="", help="File for all results; empty: none.")
    options = parser.parse_args()
    chosen = drawn(options.only.split(","), options.count, options.seed)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        trees: queue.SimpleQueue[pathlib.Path] = queue.SimpleQueue()
        for number in range(options.jobs):
            trees.put(copied(pathlib.Path(scratch, str(number))))

        def test(mutant: Mutant) -> str:
            tree = trees.get()
            try:
                return noticed(tree, mutant)
            finally:
                trees.put(tree)

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, by in zip(chosen, pool.map(test, chosen), strict=True):
                place = f"{mutant.path}:{mutant.line}"
                change = f"{mutant.before[:60]}  ->  {mutant.after[:60]}".replace("\n", " ")
                print(f"{'caught  ' if by else 'SURVIVED'} {place}  {change}  {by}", flush=True)
                results.append({"place": place, "change": change, "noticed_by": by})
                if options.json:
                    pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    caught = sum(bool(result["noticed_by"]) for result in results)
    print(f"{caught} of {len(results)} noticed: {caught / len(results):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
