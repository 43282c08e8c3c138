"""The TPU check: which programs are lowered and compiled, and what the results must satisfy."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.tpu.chips import CHIPS
from tests.system.tpu.environment import Environments
from tests.system.tpu.verdict import DEFAULT_EFFORT, beyond, extrapolate, judge, problems

# The step's cost outside the encoder does not depend on the encoder, so what detection adds
# is the difference of two steps with one that compiles in seconds.
_TINY = ("--backbone=resnet_small", "--stem=cifar", "--depth=8", "--width=1", "--image_size=8")
_PLAIN = "--detector=none"

# The search for the largest batch, among the names of compilations.
_LARGEST = "largest_batch"


class Settings(NamedTuple):
    """What to check.

    Attributes:
        flagfile: the experiment; `overrides` are further flags for main.py.
        replica_batch: images of one step on one device.
        num_examples: N of the data set, which need not be there.
        kinds: which TPUs to compile for.
        confirm: kinds for which the largest batch is found by compiling, not extrapolated.
        default_effort: kinds whose training step is compiled at libtpu's own effort as well.
        effort: XLA's optimisation level, see `compile.compile_module`.
        jobs: compilations at a time; each keeps about one core busy and takes 2 GB.
        promises: whether to measure detection's share, and whether it, flops and the batch
            must keep their limits, which were set for a ResNet-50 at 224 pixels.
    """

    flagfile: str
    overrides: tuple[str, ...]
    replica_batch: int
    num_examples: int
    kinds: tuple[str, ...]
    confirm: tuple[str, ...]
    default_effort: tuple[str, ...]
    effort: str
    jobs: int
    promises: bool = True


def _program(settings: Settings, name: str, kind: str, *more: str, batch: int = 0) -> dict:
    return {
        "name": name,
        "kind": kind,
        "flagfile": settings.flagfile,
        "overrides": [*settings.overrides, *more],
        "replica_batch": batch or settings.replica_batch,
    }


def programs(settings: Settings) -> list[dict[str, Any]]:
    """The programs of one slice size, as `tests.system.tpu.programs` wants them."""
    wanted = [_program(settings, kind, kind) for kind in ("train", "kmeans", "embed")]
    if settings.promises:
        wanted.append(_program(settings, "tiny", "train", *_TINY))
        wanted.append(_program(settings, "tiny_plain", "train", *_TINY, _PLAIN))
    return wanted


def check(
    settings: Settings, environments: Environments, say: Callable[[str], None]
) -> dict[str, Any]:
    """Lowers and compiles everything.

    Args:
        settings: what to check.
        environments: the interpreters.
        say: told what is going on, a line at a time.

    Returns:
        By kind of TPU: `programs` (name -> what was lowered and compiled), `detection`,
        `largest_batch`, `roofline` and `problems`, a list of broken promises.
    """
    compiled: dict[tuple[str, str], Future] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(settings.jobs) as pool:
        folder = Path(scratch)

        def lowered(replicas: int) -> dict[str, Any]:
            say(f"lowering for {replicas} devices")
            request = _request(settings, replicas, programs(settings))
            return environments.lower(request, folder / str(replicas))

        sizes = list(dict.fromkeys(CHIPS[kind].replicas for kind in settings.kinds))
        modules = dict(zip(sizes, pool.map(lowered, sizes), strict=True))

        def one(kind: str, name: str) -> dict[str, Any]:
            if name == _LARGEST:
                train = compiled[kind, "train"].result()
                return _confirm(kind, train, settings, environments, folder, say)
            effort = "default" if name == DEFAULT_EFFORT else settings.effort
            program = modules[CHIPS[kind].replicas]["train" if name == DEFAULT_EFFORT else name]
            result = _compile(program, kind, effort, environments)
            say(f"{kind} {name}: {_outcome(result)}")
            return result

        for job in _jobs(settings):
            compiled[job] = pool.submit(one, *job)
    report = {}
    for kind in settings.kinds:
        results = {name: job.result() for (of, name), job in compiled.items() if of == kind}
        largest = results.pop(_LARGEST, None)
        found = judge(kind, results, settings.replica_batch, largest)
        report[kind] = {**found, "problems": problems(kind, found, promises=settings.promises)}
    return report


def _jobs(settings: Settings) -> list[tuple[str, str]]:
    """(kind, name) of every compilation, the longest first, so that all cores end together.

    What waits for another's result comes after it, so a job that has started can end.
    """
    awaited = [kind for kind in settings.kinds if kind in settings.confirm]
    others = [kind for kind in settings.kinds if kind not in settings.confirm]
    rest = [
        (kind, program["name"]) for program in programs(settings)[1:] for kind in settings.kinds
    ]
    return [
        *((kind, "train") for kind in awaited),
        *((kind, DEFAULT_EFFORT) for kind in settings.kinds if kind in settings.default_effort),
        *((kind, "train") for kind in others),
        *((kind, _LARGEST) for kind in awaited),
        *rest,
    ]


def _request(settings: Settings, replicas: int, wanted: list[dict]) -> dict[str, Any]:
    return {"replicas": replicas, "num_examples": settings.num_examples, "programs": wanted}


def _compile(
    program: dict[str, Any], kind: str, effort: str, environments: Environments
) -> dict[str, Any]:
    """What was lowered together with what came of compiling it."""
    kept = {"analytic_flops": program["analytic_flops"], **program["sizes"]}
    if program["error"]:
        return {**kept, "error": f"not lowered: {program['error']}", "seconds": 0.0}
    try:
        return {**kept, **environments.compile(Path(program["module"]), kind, effort)}
    except RuntimeError as error:  # libtpu aborts on some errors, and one must not hide the rest
        return {**kept, "error": str(error).splitlines()[-1], "seconds": 0.0}


def _outcome(compiled: dict[str, Any]) -> str:
    spent = compiled.get("cpu_seconds", 0.0)
    return compiled["error"] or f"compiled in {compiled['seconds']:.0f} s ({spent:.0f} s of a core)"


def _confirm(
    kind: str,
    train: dict[str, Any],
    settings: Settings,
    environments: Environments,
    scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compiles at the batch extrapolated from `train`, and below it until one fits."""
    if train["error"]:
        return {"batch": 0, "how": "the step does not compile"}
    batch = extrapolate(train, CHIPS[kind], settings.replica_batch)
    for _ in range(3):
        wanted = _program(settings, f"train_{batch}", "train", batch=batch)
        request = _request(settings, CHIPS[kind].replicas, [wanted])
        lowered = environments.lower(request, scratch / f"{kind}_{batch}")
        compiled = _compile(lowered[wanted["name"]], kind, settings.effort, environments)
        say(f"{kind} at {batch} images a device: {_outcome(compiled)}")
        if not compiled["error"]:
            return {
                "batch": batch,
                "how": "compiled",
                "peak_bytes": compiled["peak_bytes"],
                "perhaps": beyond(train, compiled, CHIPS[kind], settings.replica_batch, batch),
            }
        batch = int(batch * 0.85) // 32 * 32
    return {"batch": settings.replica_batch, "how": "compiled; larger ones did not fit"}
