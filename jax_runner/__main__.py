"""Runs a lowered run on the devices that JAX finds; the same command continues a stopped run.

    python -m jax_runner DIR --data=FILE.npz --workdir=runs/NAME --minutes=9
    python DIR/run.pyz DIR --data=FILE.npz ...         # the same, where this project is not

DIR may hold several, as a lowered comparison does: each is run in turn. Needs NumPy and JAX.
Afterwards main.py reads the run directories: --mode=report, --mode=compare.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Progress


def _arguments(arguments: list[str]) -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0], allow_abbrev=False)
    parser.add_argument("artifact", type=Path, metavar="DIR", help="what lowering wrote")
    parser.add_argument("--data", type=Path, help="the images, FILE.npz")
    parser.add_argument(
        "--workdir", type=Path, help="run directory, or that of several; default: runs/<experiment>"
    )
    parser.add_argument("--epochs", type=int, help="stop after so many; default: all of the run's")
    parser.add_argument(
        "--minutes", type=float, help="stop in time, to continue later; default: never"
    )
    parser.add_argument(
        "--devices",
        help="numbers of the local devices, such as 4,5,6,7; default: the first",
    )
    parser.add_argument(
        "--memory_gigabytes", type=float, help="what a device has; default: as much as it says"
    )
    parser.add_argument("--losses", type=Path, help="write the running mean loss of each step")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    started = time.monotonic()
    options = _arguments(arguments)
    memory, terminal = options.memory_gigabytes, sys.stdout.isatty()
    try:
        try:
            import jax
        except ImportError:
            raise UserError("expected JAX. Not installed; pip install jax.") from None
        from jax_runner.session import Session, run_all

        # The optimizer counts its steps in int64.
        jax.config.update("jax_enable_x64", True)
        session = Session(
            data=options.data,
            workdir=options.workdir,
            epochs=options.epochs,
            minutes=options.minutes,
            devices=options.devices,
            memory_bytes=None if memory is None else memory * 1e9,
            losses=options.losses,
            started=started,
        )
        try:
            # A log file gets epochs and results, no status.
            run_all(
                options.artifact, session, Progress(interval=None if terminal else float("inf"))
            )
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                "expected a device with more memory. Received: "
                f"{str(error).splitlines()[0][:200]}; lower the run again with a smaller "
                "--batch_size."
            ) from error
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last saved state", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    # Hides XLA's own notes; set before JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv[1:]))
