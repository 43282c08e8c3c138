"""Training views, images a second: a tf.data service of two workers on this machine beside none.

    python -m benchmarks.data_service --json -

Workers and trainer share this machine's cores, so the row tells what the service costs, not what
other machines add: at best both are as fast.
"""

import argparse
import contextlib
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import rows
from benchmarks.input import BATCH, BATCHES, drawn, ours, write_photos
from benchmarks.rows import Row, in_turn, row


@contextlib.contextmanager
def served(workers: int) -> Iterator[str]:
    """The address of a service on this machine, each part a process of its own."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    line = [sys.executable, "-m", "ifnd_tf.data.serve"]
    with contextlib.ExitStack() as stack:
        worker = ["worker", f"localhost:{port}", "localhost"]
        for part in (["dispatcher", str(port)], *[worker] * workers):
            process = subprocess.Popen([*line, *part], stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()  # "serving"
        yield f"grpc://localhost:{port}"


def measure(rounds: int) -> Iterator[Row]:
    """The one row."""
    with tempfile.TemporaryDirectory() as name, served(workers=2) as address:
        folder = pathlib.Path(name)
        write_photos(folder, 375, 500)
        flags = ("--cache_megabytes=0",)
        served_there = ours(folder, 224, (*flags, f"--data_service={address}"), "uint8")
        made_here = ours(folder, 224, flags, "uint8")
        images = BATCHES * BATCH
        found = in_turn(
            {
                "service": lambda: images / drawn(served_there, BATCHES),
                "none": lambda: images / drawn(made_here, BATCHES),
            },
            rounds,
        )
        case = "500 x 375 JPEG to 224 px, two workers"
        yield row(
            case, "crops, images/s", found["service"], found["none"], "no service",
            larger_is_better=True,
        )  # fmt: skip


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rows.run("data_service", parser, measure)


if __name__ == "__main__":
    main()
