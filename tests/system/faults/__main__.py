"""What a run survives, in numbers: kills, malformed files, what checkpoints cost, a long run.

    python -m tests.system.faults --json faults.json
    python -m tests.system.faults --parts=kills --kills=10

A part that was stopped goes on, with --json, from the runs that are in the file.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any

from tests.system.faults import kills, malformed, soak, worker_kills

PARTS = ("kills", "worker_kills", "malformed", "soak", "cost")


def main() -> int:
    """Reads the command line, measures, prints and writes; exit status 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", default="", help="File for the results; empty: none.")
    parser.add_argument("--parts", default=",".join(PARTS), help="A comma list.")
    parser.add_argument("--kills", type=int, default=100, help="How many.")
    parser.add_argument("--worker_kills", type=int, default=20, help="How many, of two workers.")
    parser.add_argument("--files", type=int, default=2000, help="Malformed files.")
    parser.add_argument("--soak_steps", type=int, default=20_000, help="Steps of the long run.")
    parser.add_argument("--flagfile", default="experiments/cifar10_cpu.flags", help="Of the cost.")
    parser.add_argument("--workdir", default="", help="Scratch folder; empty: a temporary one.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments and the files.")
    options = parser.parse_args()
    path = pathlib.Path(options.json) if options.json else None
    report: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}

    def keep(part: str, result: dict[str, Any]) -> None:
        report[part] = result
        if path:
            path.write_text(json.dumps(report, indent=1))

    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.workdir or temporary
        # The cost comes last: it runs TensorFlow in this process, which must not be forked then.
        for part in [name for name in PARTS if name in options.parts.split(",")]:
            if part == "kills":
                kills.measure(
                    f"{scratch}/kills",
                    kills=options.kills,
                    seed=options.seed,
                    done=report.get("kills", {}).get("runs", []),
                    keep=lambda result: keep("kills", result),
                )
            elif part == "worker_kills":
                worker_kills.measure(
                    f"{scratch}/worker_kills",
                    kills=options.worker_kills,
                    seed=options.seed,
                    keep=lambda result: keep("worker_kills", result),
                )
            elif part == "malformed":
                found = malformed.measure(
                    f"{scratch}/malformed", files=options.files, seed=options.seed
                )
                keep("malformed", found)
            elif part == "soak":
                keep("soak", soak.measure(f"{scratch}/soak", steps=options.soak_steps))
            else:
                from tests.system.faults import cost

                keep("cost", cost.measure(f"{scratch}/cost", flagfile=options.flagfile))
    judged = _judged(report)
    print("\n".join(judged))
    return 1 if any(text.startswith("MISSED") for text in judged) else 0


def _judged(report: dict[str, Any]) -> list[str]:
    """One line a bound."""
    lines = []
    if "kills" in report:
        part = report["kills"]
        good = part["equal"] == part["kills"]
        good = good and part["most_steps_again"] <= part["interval"]
        lines.append(
            _line(
                good,
                f"{part['equal']} of {part['kills']} kills end bit-equal; at most "
                f"{part['most_steps_again']} steps done again, interval {part['interval']}",
            )
        )
    if "worker_kills" in report:
        part = report["worker_kills"]
        lines.append(
            _line(
                part["equal"] == part["kills"],
                f"{part['equal']} of {part['kills']} kills of a worker end bit-equal; "
                f"{part['silent']} others did not notice",
            )
        )
    if "malformed" in report:
        part = report["malformed"]
        good = not (part["crashes"] or part["hangs"] or part["wrong_counts"])
        lines.append(
            _line(
                good,
                f"{part['files']} files of {part['kinds']} kinds: {part['crashes']} crashes, "
                f"{part['hangs']} hangs, {part['wrong_counts']} wrong counts",
            )
        )
    if "soak" in report:
        part = report["soak"]
        lines.append(
            _line(
                part["growth"] <= 0.02,
                f"{part['steps']} steps, {part['refreshes']} refreshes: memory "
                f"{part['warm_megabytes']:.0f} MB, then {part['end_megabytes']:.0f} MB "
                f"({part['growth']:+.1%})",
            )
        )
    if "cost" in report:
        part = report["cost"]
        lines.append(
            _line(
                part["share_waiting"] <= 0.01,
                f"checkpoints: {part['share_waiting']:.2%} of training time waiting, at most "
                f"{part['share_at_most']:.2%} with the writing beside it",
            )
        )
    return lines


def _line(good: bool, text: str) -> str:
    return f"{'met   ' if good else 'MISSED'}  {text}"


if __name__ == "__main__":
    sys.exit(main())
