"""Did two runs end the same? Says 'equal', or names the first difference.

    python -m tests.system.faults.equality runs/one runs/other

Compared bit for bit: every variable of the newest checkpoints (weights, key network, optimiser,
queue, labels, centroids, kept keys), what callbacks remember, metrics.jsonl, every refresh's
labels and confidences, results.json and the exported weights. Not compared: how long things took.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.run.checkpoints import CheckpointStore


def first_difference(one: str, other: str) -> str | None:
    """The first difference of two run directories in words; None if they are equal."""
    pair = pathlib.Path(one), pathlib.Path(other)
    return next(_differences(*pair), None)


def _differences(one: pathlib.Path, other: pathlib.Path) -> Iterator[str]:
    stores = [CheckpointStore(str(path / "checkpoints")) for path in (one, other)]
    steps = [store.latest() for store in stores]
    if steps[0] != steps[1]:
        yield f"checkpoints: steps {steps[0]} and {steps[1]}"
        return
    if steps[0] is not None:
        yield from _variables("checkpoints", *(store.prefix(steps[0]) for store in stores))
        notes = [store.notes(steps[0]) for store in stores]
        yield from _values("checkpoints: notes", *map(_timeless, notes))
    for name in ("metrics.jsonl", "results.json"):
        yield from _values(name, *(_timeless(_records(path / name)) for path in (one, other)))
    names = [_names(path, "detection/*") for path in (one, other)]
    yield from _values("detection: files", *names)
    for name in names[0]:
        yield from _refresh(name, one / name, other / name)
    exported = [path / "saved_model" / "variables" / "variables" for path in (one, other)]
    there = [path.with_suffix(".index").exists() for path in exported]
    if there[0] != there[1]:
        yield f"saved_model: only in {(one, other)[there[1]]}"
    elif there[0]:
        yield from _variables("saved_model", *map(str, exported))


def _refresh(name: str, one: pathlib.Path, other: pathlib.Path) -> Iterator[str]:
    if name.endswith(".json"):
        pair = (_timeless(json.loads(path.read_text())) for path in (one, other))
        yield from _values(name, *pair)
    else:
        arrays = [np.load(path, allow_pickle=False) for path in (one, other)]
        yield from _values(f"{name}: arrays", *(sorted(each.files) for each in arrays))
        for array in arrays[0].files:
            yield from _arrays(f"{name}: {array}", *(each[array] for each in arrays))


def _variables(where: str, one: str, other: str) -> Iterator[str]:
    readers = [tf.train.load_checkpoint(prefix) for prefix in (one, other)]
    names = [sorted(reader.get_variable_to_shape_map()) for reader in readers]
    yield from _values(f"{where}: names of variables", *names)
    for name in names[0]:
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":  # the names' order in it may differ
            yield from _arrays(f"{where}: {name}", *(r.get_tensor(name) for r in readers))


def _arrays(where: str, one: Any, other: Any) -> Iterator[str]:
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype != other.dtype or one.shape != other.shape:
        yield f"{where}: {one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)}"
    elif one.tobytes() != other.tobytes() and not (one.dtype == object and np.all(one == other)):
        differ = np.flatnonzero((one != other).ravel())
        first = int(differ[0]) if differ.size else 0
        yield (
            f"{where}: {differ.size} of {one.size} numbers, first at {first}: "
            f"{one.ravel()[first]!r} and {other.ravel()[first]!r}"
        )


def _values(where: str, one: Any, other: Any) -> Iterator[str]:
    """Differences of JSON values; the path of the first is named."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                yield f"{where}: {key} is only in the {'first' if key in one else 'second'}"
            else:
                yield from _values(f"{where}: {key}", one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} entries"
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from _values(f"{where}[{number}]", *pair)
    elif one != other and not (one != one and other != other):  # NaN equals NaN here
        yield f"{where}: {one!r} and {other!r}"


def _timeless(value: Any) -> Any:
    """Without what a clock measured."""
    if isinstance(value, dict):
        return {
            key: _timeless(each)
            for key, each in value.items()
            if not key.startswith("seconds_")
            and not key.endswith(("_seconds", "images_per_second"))
        }
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _records(path: pathlib.Path) -> Any:
    text = path.read_text() if path.exists() else ""
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else (json.loads(text or "{}"))
    )


def _names(root: pathlib.Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern))


def main() -> int:
    """Reads the command line; exit status 0: equal, 1: different."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("one", help="A run directory.")
    parser.add_argument("other", help="Another.")
    difference = first_difference(**vars(parser.parse_args()))
    print(difference or "equal")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
