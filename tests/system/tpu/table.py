"""The TPU check's results as a table for the terminal."""

from typing import Any

from tests.system.tpu.chips import CHIPS
from tests.system.tpu.verdict import DEFAULT_EFFORT

_COLUMNS = (
    "TPU", "compiled", "TFLOP", "of analytic", "GB moved", "peak GB", "detection flops",
    "detection bytes", "largest batch", "bound ms", "images/s", "host transfers",
)  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """One row per kind of TPU; a step that did not compile shows the compiler's reason.

    Args:
        report: from `check.check`.
    """
    rows = [_COLUMNS, *(row for kind, found in report.items() for row in _rows(kind, found))]
    widths = [max(len(row[i]) for row in rows if len(row) > i) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )


def _rows(kind: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The kind's row, and one more if its step was compiled at libtpu's own effort too."""
    train = found["programs"]["train"]
    if train["error"]:
        return [(kind, "no: " + train["error"][:200])]
    detection = found.get("detection")
    others = [name for name, program in found["programs"].items() if program["error"]]
    transfers = sum(len(p.get("host_transfers", ())) for p in found["programs"].values())
    row = (
        kind,
        "not " + ", ".join(others) if others else "yes",
        *_costs(train),
        f"{detection['flops']:.3%}" if detection else "-",
        f"{detection['bytes']:.3%}" if detection else "-",
        _batch(found["largest_batch"]),
        *_bound(found["roofline"]),
        str(transfers) if transfers else "none",
    )
    own = found["programs"].get(DEFAULT_EFFORT)
    if own is None or own["error"]:
        return [row]
    bound = _bound(found["default_effort_roofline"])
    return [row, ("  default effort", "yes", *_costs(own), "-", "-", "-", *bound, "-")]


def _costs(step: dict[str, Any]) -> tuple[str, ...]:
    expected = step["analytic_flops"]
    return (
        f"{step['flops'] / 1e12:.3f}",
        f"{step['flops'] / expected:.3f}" if expected else "-",
        f"{step['bytes'] / 1e9:.2f}",
        f"{step['peak_bytes'] / 1e9:.2f}",
    )


def _bound(roofline: dict[str, Any]) -> tuple[str, ...]:
    return f"{roofline['step_seconds'] * 1e3:.2f}", f"{roofline['images_per_second']:.0f}"


def _batch(largest: dict[str, Any]) -> str:
    """A batch that was compiled stands as it is, an extrapolated one behind a tilde."""
    if not largest["how"].startswith("compiled"):
        return f"~{largest['batch']}"
    more = largest.get("perhaps", 0)
    return f"{largest['batch']}" + (f" (~{more})" if more > largest["batch"] else "")


def legend(replica_batch: int) -> str:
    """What the columns mean."""
    pages = ", ".join(sorted({chip.url for chip in CHIPS.values()}))
    return (
        f"Per device and training step at {replica_batch} images a device. bound ms: roofline with "
        f"the published peaks ({pages}), a lower bound; images/s: of the slice at that bound. "
        "~: extrapolated from the memory of the compiled step. default effort: the same step as "
        "libtpu compiles it when it is not asked to be quick."
    )
