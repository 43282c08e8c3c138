"""Runs a lowered run on whatever device JAX finds; the same command goes on where it stopped.

    python -m benchmarks.lowered DIR --data=FILE.npz --workdir=runs/NAME --minutes=9
    python DIR/run.pyz DIR --data=FILE.npz ...         # the same, where this project is not

Needs NumPy and JAX. Afterwards main.py reads the run directory: --mode=report, --mode=compare.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lowered.artifact import Artifact
from ifnd_tf.errors import UserError
from ifnd_tf.progress import Progress

# Kept for writing the state and leaving, so that a limit on the call is not met.
_LEAVING_SECONDS = 20.0


def _arguments(arguments: list[str]) -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0], allow_abbrev=False)
    parser.add_argument("artifact", type=Path, metavar="DIR", help="what benchmarks.lower wrote")
    parser.add_argument("--data", type=Path, help="the images, FILE.npz")
    parser.add_argument("--workdir", type=Path, help="run directory; default: runs/<experiment>")
    parser.add_argument("--epochs", type=int, help="stop after so many; default: all of the run's")
    parser.add_argument(
        "--minutes", type=float, help="stop in time, to go on later; default: never"
    )
    parser.add_argument(
        "--memory_gigabytes", type=float, help="what the device has; default: as much as it says"
    )
    parser.add_argument("--losses", type=Path, help="write the running mean loss of each step")
    parser.add_argument("--kmeans", action="store_true", help="time `lower --kmeans`'s program")
    return parser.parse_args(arguments)


def _train(options: argparse.Namespace, started: float, progress: Progress) -> None:
    import jax

    from benchmarks.lowered import images, measure
    from benchmarks.lowered.run_folder import RunFolder
    from benchmarks.lowered.training import Training, refresh_share

    artifact = Artifact(options.artifact)
    if options.data is None:
        raise UserError("--data: expected FILE.npz. Received: none.")
    manifest, memory = artifact.manifest, _bytes(options)
    settings, data = manifest["settings"], manifest["data"]
    run = RunFolder(options.workdir or Path("runs") / settings["experiment"], artifact)
    train, test = images.load(options.data, data)
    progress.mirror = lambda text: run.write_status("running", text)
    training = Training(artifact, train, test, run, progress, memory)
    device = jax.devices()[0].device_kind
    progress.line(
        f"{settings['experiment']}: {manifest['encoder']} on {data['train']:,} images, "
        f"{training.steps} steps an epoch, {training.step} steps done, on {device}, jax "
        f"{jax.__version__}\n"
        f"random level of the loss: {manifest['random_loss']:.2f}"
    )
    deadline = float("inf")
    if options.minutes is not None:
        deadline = started + 60.0 * options.minutes - _LEAVING_SECONDS
    epochs = min(options.epochs or settings["epochs"], settings["epochs"])
    before = run.results().get("wall_seconds", 0.0)
    finished = training.train(epochs, deadline)
    if options.losses is not None:
        np.save(options.losses, np.array(training.losses))
    results: dict[str, Any] = {"wall_seconds": before + time.monotonic() - started}
    if not finished:
        run.write_results(results)
        run.write_status("stopped", "out of time; the same command goes on")
        progress.line(
            f"out of time after {training.step} of {epochs * training.steps} steps; the same "
            "command goes on"
        )
        return
    results |= training.summary()
    half = settings["precision"] == "mixed_bfloat16"
    results["device"] = device
    results["matmul_peak_per_second"] = measure.matmul_peak("bfloat16" if half else "float32")
    reached = manifest["step_flops"] * results["train_images_per_second"] / settings["batch_size"]
    results["matmul_peak_share"] = reached / results["matmul_peak_per_second"]
    shares = [share for record in run.metrics() if (share := refresh_share(record))]
    results["refresh_share"] = statistics.median(shares) if shares else 0.0
    progress.line(
        f"{results['train_images_per_second']:,.0f} images/s, {reached / 1e12:.2f} TFLOP/s: "
        f"{results['matmul_peak_share']:.1%} of the measured matmul peak of "
        f"{results['matmul_peak_per_second'] / 1e12:.2f} TFLOP/s; refreshes take "
        f"{results['refresh_share']:.1%} of an epoch"
    )
    if test is not None:
        start = time.monotonic()
        results |= training.evaluate()
        results["evaluate_seconds"] = time.monotonic() - start
        for name in ("knn_top1", "linear_top1", "untrained_knn_top1"):
            if name in results:
                progress.line(f"{name} {results[name]:.1%}")
    results["wall_seconds"] = before + time.monotonic() - started
    run.write_results(results)
    run.write_status("finished", "finished train, evaluate")
    progress.line(f"results in {run.path}")


def _bytes(options: argparse.Namespace) -> float | None:
    return None if options.memory_gigabytes is None else options.memory_gigabytes * 1e9


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the process's exit status."""
    started = time.monotonic()
    options = _arguments(arguments)
    progress = Progress()
    try:
        try:
            import jax
        except ImportError:
            raise UserError("expected JAX. Not installed; pip install jax.") from None
        # The optimizer counts its steps in int64.
        jax.config.update("jax_enable_x64", True)
        try:
            if options.kmeans:
                from benchmarks.lowered import measure

                measure.clustering(Artifact(options.artifact), progress, _bytes(options))
            else:
                _train(options, started, progress)
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
        print("stopped; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    # XLA's own notes of no interest to who trains; before JAX is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv[1:]))
