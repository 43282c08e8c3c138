"""The TPU check: which programs are lowered and compiled, and what the results must satisfy."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tpu.chips import CHIPS, Chip
from benchmarks.tpu.environment import Environments
from benchmarks.tpu.roofline import roofline

# What the project promises of a step, and `problems` checks.
FLOPS_TOLERANCE = 0.05
DETECTION_FLOPS, DETECTION_BYTES = 0.01, 0.02
BATCH_IN_16_GB = 128

# The step's cost outside the encoder does not depend on the encoder, so what detection adds
# is the difference of two steps with one that compiles in seconds.
_TINY = ("--backbone=resnet_small", "--stem=cifar", "--depth=8", "--width=1", "--image_size=8")
_PLAIN = "--detector=none"


class Settings(NamedTuple):
    """What to check.

    Attributes:
        flagfile: the experiment; `overrides` are further flags for main.py.
        replica_batch: images of one step on one device.
        num_examples: N of the data set, which need not be there.
        kinds: which TPUs to compile for.
        confirm: kinds for which the largest batch is found by compiling, not extrapolated.
        effort: XLA's optimisation level, see `compile.compile_module`.
        jobs: compilations at a time; each keeps about one core busy and takes 2 GB.
        promises: whether flops, detection's share and the batch must keep their limits,
            which were set for a ResNet-50 at 224 pixels.
    """

    flagfile: str
    overrides: tuple[str, ...]
    replica_batch: int
    num_examples: int
    kinds: tuple[str, ...]
    confirm: tuple[str, ...]
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
    """The programs of one slice size, as `benchmarks.tpu.programs` wants them."""
    return [
        _program(settings, "train", "train"),
        _program(settings, "tiny", "train", *_TINY),
        _program(settings, "tiny_plain", "train", *_TINY, _PLAIN),
        _program(settings, "embed", "embed"),
        _program(settings, "kmeans", "kmeans"),
    ]


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
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(settings.jobs) as pool:
        lowered: dict[int, dict[str, Any]] = {}
        for replicas in dict.fromkeys(CHIPS[kind].replicas for kind in settings.kinds):
            say(f"lowering for {replicas} devices")
            request = _request(settings, replicas, programs(settings))
            lowered[replicas] = environments.lower(request, Path(scratch) / str(replicas))

        def one(kind: str) -> dict[str, Any]:
            compiled = {}
            for name, program in lowered[CHIPS[kind].replicas].items():
                compiled[name] = _compile(program, kind, settings.effort, environments)
                say(f"{kind} {name}: {_outcome(compiled[name])}")
            found = _judge(kind, compiled, settings)
            if kind in settings.confirm:
                found["largest_batch"] = _confirm(
                    kind, found, settings, environments, Path(scratch), say
                )
            return {**found, "problems": problems(kind, found, promises=settings.promises)}

        # The kinds that also look for a batch take longest, so they go first.
        order = sorted(settings.kinds, key=lambda kind: kind not in settings.confirm)
        report = dict(zip(order, pool.map(one, order), strict=True))
    return {kind: report[kind] for kind in settings.kinds}


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
    return compiled["error"] or f"compiled in {compiled['seconds']:.0f} s"


def _judge(kind: str, compiled: dict[str, Any], settings: Settings) -> dict[str, Any]:
    chip, train = CHIPS[kind], compiled["train"]
    report: dict[str, Any] = {"programs": compiled}
    if train["error"]:
        return report
    report["largest_batch"] = {"batch": extrapolate(train, chip, settings.replica_batch)}
    report["largest_batch"]["how"] = "extrapolated"
    bound = roofline(
        chip,
        flops=train["flops"],
        bytes_accessed=train["bytes"],
        replica_batch=settings.replica_batch,
    )
    report["roofline"] = bound._asdict()
    tiny, plain = compiled["tiny"], compiled["tiny_plain"]
    if not tiny["error"] and not plain["error"]:
        report["detection"] = {
            key: (tiny[key] - plain[key]) / (train[key] - tiny[key] + plain[key])
            for key in ("flops", "bytes")
        }
    return report


def extrapolate(train: dict[str, Any], chip: Chip, batch: int) -> int:
    """The largest multiple of 32 that should fit, if temporary memory grows with the batch.

    Args:
        train: a compiled training step.
        chip: whose memory to fill; a sixty-fourth of it is the runtime's.
        batch: images of a step on one device, for which `train` was compiled.
    """
    growing = train["temporary_bytes"] / batch
    fixed = train["peak_bytes"] - train["temporary_bytes"]
    room = chip.device_hbm * (1 - 1 / 64) - fixed
    return max(0, int(room / growing) // 32 * 32)


def _confirm(
    kind: str,
    report: dict[str, Any],
    settings: Settings,
    environments: Environments,
    scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compiles at the extrapolated batch, and below it until one fits."""
    if "largest_batch" not in report:
        return {"batch": 0, "how": "the step does not compile"}
    batch = report["largest_batch"]["batch"]
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
                "perhaps": beyond(report["programs"]["train"], compiled, kind, settings, batch),
            }
        batch = int(batch * 0.85) // 32 * 32
    return {"batch": settings.replica_batch, "how": "compiled; larger ones did not fit"}


def beyond(
    small: dict[str, Any], large: dict[str, Any], kind: str, settings: Settings, batch: int
) -> int:
    """The largest multiple of 32 that should fit, by the line through two compiled steps.

    One compiled step overestimates what an image needs, because part of its temporary
    memory does not grow with the batch; another compilation would tell, at its price.
    """
    growth = (large["peak_bytes"] - small["peak_bytes"]) / (batch - settings.replica_batch)
    room = CHIPS[kind].device_hbm * (1 - 1 / 64) - large["peak_bytes"]
    return batch + max(0, int(room / growth)) // 32 * 32


def problems(kind: str, report: dict[str, Any], *, promises: bool = True) -> list[str]:
    """What is wrong with the results of one kind, each as a line; empty if nothing is.

    Args:
        kind: of TPU.
        report: its programs, detection's share and largest batch.
        promises: see `Settings`; without them only what does not compile or waits for the
            host is wrong.
    """
    found = []
    for name, program in report["programs"].items():
        if program["error"]:
            found.append(f"{kind} {name}: {program['error']}")
        for transfer in program.get("host_transfers", ()):
            found.append(f"{kind} {name}: waits for the host at {transfer}")
    if found or not promises:
        return found
    train = report["programs"]["train"]
    expected = train["analytic_flops"]
    if expected and abs(train["flops"] / expected - 1) > FLOPS_TOLERANCE:
        found.append(
            f"{kind} train: expected {expected:.4g} flops within {FLOPS_TOLERANCE:.0%}, "
            f"compiled {train['flops']:.4g}"
        )
    for key, limit in (("flops", DETECTION_FLOPS), ("bytes", DETECTION_BYTES)):
        share = report.get("detection", {}).get(key, 0.0)
        if share > limit:
            found.append(f"{kind} train: detection adds {share:.2%} {key}, more than {limit:.0%}")
    if report["largest_batch"]["batch"] < BATCH_IN_16_GB:
        found.append(
            f"{kind} train: at most {report['largest_batch']['batch']} images fit on a device, "
            f"expected {BATCH_IN_16_GB}"
        )
    return found
