"""The TPU check's results as a table for the terminal."""

from typing import Any

from benchmarks.tpu.chips import CHIPS

_COLUMNS = (
    "TPU", "compiled", "TFLOP", "of analytic", "GB moved", "peak GB", "detection flops",
    "detection bytes", "largest batch", "bound ms", "images/s", "host transfers",
)  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """One row per kind of TPU; a step that did not compile shows the compiler's reason.

    Args:
        report: from `check.check`.
    """
    rows = [_COLUMNS, *(_row(kind, found) for kind, found in report.items())]
    widths = [max(len(row[i]) for row in rows if len(row) > i) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )


def _row(kind: str, found: dict[str, Any]) -> tuple[str, ...]:
    train = found["programs"]["train"]
    if train["error"]:
        return kind, "no: " + train["error"][:200]
    expected, detection = train["analytic_flops"], found.get("detection")
    largest, bound = found["largest_batch"], found["roofline"]
    others = [name for name, program in found["programs"].items() if program["error"]]
    transfers = sum(len(p.get("host_transfers", ())) for p in found["programs"].values())
    return (
        kind,
        "not " + ", ".join(others) if others else "yes",
        f"{train['flops'] / 1e12:.3f}",
        f"{train['flops'] / expected:.3f}" if expected else "-",
        f"{train['bytes'] / 1e9:.2f}",
        f"{train['peak_bytes'] / 1e9:.2f}",
        f"{detection['flops']:.3%}" if detection else "-",
        f"{detection['bytes']:.3%}" if detection else "-",
        _batch(largest),
        f"{bound['step_seconds'] * 1e3:.2f}",
        f"{bound['images_per_second']:.0f}",
        str(transfers) if transfers else "none",
    )


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
        "~: extrapolated from the memory of the compiled step."
    )
