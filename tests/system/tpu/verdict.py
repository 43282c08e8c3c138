"""What the compiled programs of one kind of TPU prove, and which promises they break."""

from typing import Any

from tests.system.tpu.chips import CHIPS, Chip
from tests.system.tpu.roofline import roofline

# What the project promises of a step, and `problems` checks.
FLOPS_TOLERANCE = 0.05
DETECTION_FLOPS, DETECTION_BYTES = 0.01, 0.02
BATCH_IN_16_GB = 128

# The training step compiled at libtpu's own effort, beside "train".
DEFAULT_EFFORT = "train_default_effort"


def judge(
    kind: str,
    compiled: dict[str, dict[str, Any]],
    replica_batch: int,
    largest: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What follows from the compiled programs of one kind of TPU.

    Args:
        kind: of TPU.
        compiled: what came of compiling each program, by its name in `check`.
        replica_batch: images of one step on one device.
        largest: the largest batch, where it was looked for; else it is extrapolated.

    Returns:
        `programs` and, as far as they compiled, `largest_batch`, `roofline`,
        `default_effort_roofline` and `detection`, the share of flops and bytes it adds.
    """
    chip, train = CHIPS[kind], compiled["train"]
    report: dict[str, Any] = {"programs": compiled}
    if train["error"]:
        return report
    report["largest_batch"] = largest or {
        "batch": extrapolate(train, chip, replica_batch),
        "how": "extrapolated",
    }
    for name, key in (("train", "roofline"), (DEFAULT_EFFORT, "default_effort_roofline")):
        step = compiled.get(name, {"error": "not asked for"})
        if not step["error"]:
            report[key] = roofline(
                chip,
                flops=step["flops"],
                bytes_accessed=step["bytes"],
                replica_batch=replica_batch,
            )._asdict()
    tiny, plain = compiled.get("tiny"), compiled.get("tiny_plain")
    if tiny and plain and not tiny["error"] and not plain["error"]:
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


def beyond(
    small: dict[str, Any], large: dict[str, Any], chip: Chip, replica_batch: int, batch: int
) -> int:
    """The largest multiple of 32 that should fit, by the line through two compiled steps.

    One compiled step overestimates what an image needs, because part of its temporary
    memory does not grow with the batch; another compilation would tell, at its price.

    Args:
        small, large: steps compiled at `replica_batch` and at `batch` images a device.
        chip: whose memory to fill.
    """
    growth = (large["peak_bytes"] - small["peak_bytes"]) / (batch - replica_batch)
    room = chip.device_hbm * (1 - 1 / 64) - large["peak_bytes"]
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
        scores = f"{program.get('chunk_rows')},{program.get('clusters')}"
        if scores in program.get("stored_shapes", ()):
            found.append(f"{kind} {name}: the scores [{scores}] are written to memory")
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
