"""The time that main.py takes to answer --help, and to do its first training step.

python -m benchmarks.start --json -
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks import rows
from benchmarks.peer import ROOT
from benchmarks.rows import Row, in_turn, row, seconds

# Ends the process after the first step, and says how long it took from the process's start.
_FIRST_STEP = """
import os, sys, time
begin = float(sys.argv.pop(1))
import main
from ifnd_tf.training.callbacks import terminal
def first(self, batch, logs=None):
    print(time.time() - begin, flush=True)
    os._exit(0)
terminal.Terminal.on_train_batch_end = first
sys.exit(main.main(sys.argv[1:]))
"""


def help_seconds() -> float:
    """Seconds of `main.py --help`."""
    command = [sys.executable, "main.py", "--help"]
    return seconds(lambda: subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True))


def first_step_seconds() -> float:
    """Seconds from the launch of the digits' run to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _FIRST_STEP, str(time.time()), f"--workdir={folder}/run"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[-1])


def measure(rounds: int) -> Iterator[Row]:
    """All rows."""
    yield row("main.py --help", "time, s", in_turn({"": help_seconds}, rounds)[""])
    taken = in_turn({"": first_step_seconds}, rounds, warm=False)[""]
    yield row("digits, launch to first step", "time, s", taken)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="launches of each")
    rows.run("start", parser, measure)


if __name__ == "__main__":
    main()
