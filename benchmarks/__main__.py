"""Runs the benchmarks of `make bench` and shows their rows: all but imagenet_size, of an hour.

    python -m benchmarks [--results DIR] [NAME ...]

Each runs in a process of its own, as `python -m benchmarks.NAME --json DIR/NAME.json`.
"""

import argparse
import pathlib
import subprocess
import sys

from benchmarks.peer import ROOT

NAMES = (
    "kmeans", "loss", "refresh", "input", "photos", "step", "evaluation", "start", "scaling",
)  # fmt: skip


def main() -> int:
    """Runs the command line; returns how many benchmarks failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("bench-results"))
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in options.names or NAMES:
        print(f"\n== {name}", flush=True)
        path = (options.results / f"{name}.json").resolve()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
        failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    print(f"\nrows: {options.results}/*.json; failed: {failed} of {len(options.names or NAMES)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
