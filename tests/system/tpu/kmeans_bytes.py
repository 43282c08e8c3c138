"""What k-means moves between a TPU's cores and its memory (HBM), read from the compiled programs.

    python -m tests.system.tpu.kmeans_bytes [--json PATH]

XLA's own count of a program's bytes takes the product of rows and centroids for an array in memory.
Here the arrays are counted that the instructions of each loop over rows read and write: no array
inside a fusion, none in on-chip memory, and of an array that a fusion slices the slice alone.
"""

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.system.tpu import compile
from tests.system.tpu.chips import CHIPS
from tests.system.tpu.environment import ROOT, Environments
from tests.system.tpu.hlo import Instruction, computations

FLAGFILE, NUM_EXAMPLES = "experiments/imagenet_tpu.flags", 1_281_167
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
# Names for what exists already.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant"}
# A type and layout, such as f32[8,128]{1,0:T(8,128)S(1)}; S(n) with n > 0 is not HBM.
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{[^}]*?(S\([1-9]\d*\))?\})?")


def hbm_bytes(kind: str) -> int:
    """Bytes of the arrays of a type that lie in HBM."""
    return sum(
        _BYTES.get(dtype, 4) * math.prod(int(side) for side in shape.split(",") if side)
        for dtype, shape, elsewhere in _ARRAY.findall(kind)
        if not elsewhere
    )


def _read_by_fusion(
    body: list[Instruction], place: int, size: int, every: dict[str, list[Instruction]]
) -> int:
    """Bytes that a fusion reads of an operand: of one that it slices at once, the slices."""
    parameter = next(
        each.name for each in body if each.op == "parameter" and each.rest.startswith(f"{place})")
    )
    read = 0
    for user in body:
        if parameter not in user.operands:
            continue
        if user.op in ("dynamic-slice", "gather"):
            read += hbm_bytes(user.kind)
        elif user.op == "fusion":
            inside = every[user.called("calls")]
            read += _read_by_fusion(inside, user.operands.index(parameter), size, every)
        else:
            return size
    return min(read, size)


def loops(hlo: str) -> Iterator[int]:
    """HBM bytes of one turn of each innermost loop that multiplies matrices."""
    every = computations(hlo)
    bodies = [
        every[each.called("body")] for body in every.values() for each in body if each.op == "while"
    ]
    for body in bodies:
        fusions = [every[each.called("calls")] for each in body if each.op == "fusion"]
        ops = {each.op for fusion in fusions for each in fusion}
        if "convolution" in ops and all(each.op != "while" for each in body):
            yield sum(_moved(each, body, every) for each in body if each.op not in _FREE)


def _moved(
    instruction: Instruction, body: list[Instruction], every: dict[str, list[Instruction]]
) -> int:
    """HBM bytes that an instruction reads and writes."""
    sizes = {each.name: hbm_bytes(each.kind) for each in body}
    if instruction.op == "dynamic-update-slice":  # in place
        return 2 * sizes.get(instruction.operands[1], 0)
    read = [sizes.get(operand, 0) for operand in instruction.operands]
    if instruction.op == "fusion":
        inside = every[instruction.called("calls")]
        read = [_read_by_fusion(inside, place, size, every) for place, size in enumerate(read)]
    return hbm_bytes(instruction.kind) + sum(read)


def compiled(module: str, kind: str) -> dict[str, Any]:
    """`loops` of a module, compiled for a kind of TPU, and `stored_shapes`."""
    with tempfile.TemporaryDirectory() as folder:
        # jax cannot read the newer kinds' modules; XLA itself writes each as text.
        os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        executable, _, error = compile.compiled_executable(
            Path(module).read_text(), CHIPS[kind], "O0"
        )
        if executable is None:
            raise RuntimeError(error)
        (path,) = Path(folder).glob("*.after_optimizations.txt")
        text = path.read_text(encoding="utf-8")
    return {"loops": list(loops(text)), "stored_shapes": compile.stored_shapes(text)}


def by_pair(
    program: dict[str, Any], *, chunk_rows: int, clusters: int, width: int
) -> dict[str, Any]:
    """HBM bytes for each row and centroid, of an iteration and of the last pass.

    The last pass takes the confidence besides the label; no other loop moves as much.
    """
    pairs = chunk_rows * clusters
    return {
        "iteration": min(program["loops"]) / pairs,
        "last_pass": max(program["loops"]) / pairs,
        "scores_are_stored": f"{chunk_rows},{clusters}" in program["stored_shapes"],
        "chunk_rows": chunk_rows,
        "clusters": clusters,
        "width": width,
    }


def measure(environments: Environments) -> dict[str, Any]:
    """`by_pair` of each kind of TPU."""
    found: dict[str, Any] = {}
    for replicas in sorted({chip.replicas for chip in CHIPS.values()}):
        with tempfile.TemporaryDirectory() as folder:
            program = {
                "name": "kmeans", "kind": "kmeans", "flagfile": FLAGFILE, "overrides": [],
                "replica_batch": 128,
            }  # fmt: skip
            request = {
                "replicas": replicas, "num_examples": NUM_EXAMPLES, "programs": [program],
            }  # fmt: skip
            lowered = environments.lower(request, Path(folder))["kmeans"]
            sizes = lowered["sizes"]
            for kind, chip in CHIPS.items():
                if chip.replicas != replicas:
                    continue
                output = Path(folder) / "loops.json"
                arguments = ["--compiled", lowered["module"], kind, str(output)]
                environments.run(environments.compiling, "tests.system.tpu.kmeans_bytes", arguments)
                found[kind] = by_pair(json.loads(output.read_text(encoding="utf-8")), **sizes)
                print(kind, found[kind], flush=True)
    return found


def main() -> int:
    """Runs the command line."""
    if sys.argv[1:2] == ["--compiled"]:
        module, kind, output = sys.argv[2:]
        Path(output).write_text(json.dumps(compiled(module, kind)), encoding="utf-8")
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    options = parser.parse_args()
    found = measure(Environments.under(ROOT / ".venv-tpu"))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
