"""One session on devices: a lowered run, or all of a comparison, until they end or time is up."""

import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ifnd_tf.errors import UserError
from ifnd_tf.run.progress import Nested, Progress
from jax_runner import images, measure
from jax_runner.artifact import Artifact, artifacts_in
from jax_runner.devices import Devices, chosen
from jax_runner.run_directory import RunDirectory
from jax_runner.training import Training, refresh_share

# Reserved for writing the state and exiting, before a time limit kills the process.
_LEAVING_SECONDS = 20.0
# An evaluation cannot be interrupted, so it begins only with enough time left: more than the
# longest evaluation of the runs beside this one took, or a guess where none has been evaluated.
_EVALUATION_SECONDS, _EVALUATION_RESERVE = 60.0, 1.5


class Session(NamedTuple):
    """The options of a session.

    Attributes:
        data: the images, FILE.npz.
        workdir: of the run, or of the comparison; None: runs/<experiment>.
        epochs: stop after so many; None: all of the run's.
        minutes: stop in time; None: never.
        devices: numbers of the local devices, such as 4,5,6,7; None: the first.
        memory_bytes: what each device has; None: as much as it says.
        losses: where to write the running mean loss of each step, or None.
        started: on time.monotonic's clock.
    """

    data: Path | None
    workdir: Path | None
    epochs: int | None
    minutes: float | None
    devices: str | None
    memory_bytes: float | None
    losses: Path | None
    started: float

    def devices_of(self, artifact: Artifact) -> Devices:
        """The devices that an artifact runs on in this session."""
        return chosen(self.devices, artifact.num_devices, self.memory_bytes)

    def deadline(self) -> float:
        """The time at which the session is over, on time.monotonic's clock."""
        if self.minutes is None:
            return float("inf")
        return self.started + max(0.0, 60.0 * self.minutes - _LEAVING_SECONDS)


def run_all(folder: Path, session: Session, progress: Progress) -> None:
    """Continues all unfinished runs of the artifacts in `folder`.

    Raises:
        UserError: there is no artifact, or what it is given does not fit it.
    """
    found = artifacts_in(folder)
    alone = len(found) == 1
    runs = [artifact for artifact in found if "settings" in artifact.manifest]

    def named(artifact: Artifact) -> Progress:
        return progress if alone else Nested(progress, artifact.folder.name)

    for artifact in found:
        if artifact not in runs:
            workdir = _workdir(artifact, session, alone)
            _time_clustering(artifact, workdir, session, named(artifact))
    for artifact in runs:
        for name in artifact.manifest["programs"]:
            artifact.compile_ahead(name, session.devices_of(artifact))
    for artifact in runs:
        run = RunDirectory(_workdir(artifact, session, alone), artifact)
        if not _go_on(artifact, run, session, named(artifact)):
            named(artifact).line("out of time; the same command continues")
            return
    if len(found) > 1:
        progress.line(f"all {len(found)} finished")


def _workdir(artifact: Artifact, session: Session, alone: bool) -> Path:
    experiment = artifact.manifest.get("settings", {}).get("experiment", artifact.folder.name)
    whole = session.workdir or Path("runs") / experiment
    return whole if alone else whole / artifact.folder.name


def _time_clustering(
    artifact: Artifact, workdir: Path, session: Session, progress: Progress
) -> None:
    """Times a k-means iteration, once for each directory."""
    path = workdir / "kmeans.json"
    if path.exists():
        return
    found = measure.clustering(artifact, progress, session.devices_of(artifact))
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _go_on(artifact: Artifact, run: RunDirectory, session: Session, progress: Progress) -> bool:
    """Trains and evaluates one run; returns whether it is finished."""
    manifest = artifact.manifest
    settings, data = manifest["settings"], manifest["data"]
    epochs = min(session.epochs or settings["epochs"], settings["epochs"])
    # Restoring raises an error if the state is of another manifest.
    if run.results().get("epochs", 0) >= epochs and run.restore() is not None:
        progress.line(f"finished; results in {run.path}")
        return True
    if session.data is None:
        raise UserError("--data: expected FILE.npz. Received: none.")
    begun = time.monotonic()
    devices = session.devices_of(artifact)
    # For what one device alone computes, such as the linear probe.
    jax.config.update("jax_default_device", devices.all[0])
    train, test = images.load(session.data, data, devices)
    progress.mirror = lambda text: run.write_status("running", text)
    training = Training(artifact, train, test, run, progress)
    progress.line(
        f"{settings['experiment']}: {manifest['encoder']} on {data['train']:,} images, "
        f"{training.steps} steps an epoch, {training.step} steps done, on {devices}, jax "
        f"{jax.__version__}\n"
        f"loss at chance: {manifest['random_loss']:.2f}"
    )
    before = training.step
    finished = training.train(epochs, session.deadline())
    if session.losses is not None:
        np.save(session.losses, np.array(training.losses))
    rested = training.step == before  # nothing else was done in this session
    if finished and (rested or time.monotonic() + _evaluation_seconds(run) < session.deadline()):
        results = _outcome(manifest, training, run, devices, progress)
    else:
        finished, results = False, {}
        progress.line(f"after {training.step} of {epochs * training.steps} steps")
    results["wall_seconds"] = run.results().get("wall_seconds", 0.0) + time.monotonic() - begun
    run.write_results(results)
    if finished:
        run.write_status("finished", "finished train, evaluate")
        progress.line(f"results in {run.path}")
    else:
        run.write_status("stopped", "out of time; the same command continues")
    return finished


def _evaluation_seconds(run: RunDirectory) -> float:
    """The time that an evaluation may take, judged by the runs beside this one."""
    results = [json.loads(path.read_text()) for path in run.path.parent.glob("*/results.json")]
    known = [found["evaluate_seconds"] for found in results if "evaluate_seconds" in found]
    return _EVALUATION_RESERVE * max(known) if known else _EVALUATION_SECONDS


def _outcome(
    manifest: dict[str, Any],
    training: Training,
    run: RunDirectory,
    devices: Devices,
    progress: Progress,
) -> dict[str, Any]:
    """The results of a trained run for results.json: speed, and the protocols' numbers."""
    settings = manifest["settings"]
    results = training.summary()
    half = settings["precision"] == "mixed_bfloat16"
    peak = len(devices) * measure.matmul_peak("bfloat16" if half else "float32")
    reached = manifest["step_flops"] * results["train_images_per_second"] / settings["batch_size"]
    shares = [share for record in run.metrics() if (share := refresh_share(record))]
    results |= {
        "device": str(devices),
        "matmul_peak_per_second": peak,
        "matmul_peak_share": reached / peak,
        "refresh_share": statistics.median(shares) if shares else 0.0,
    }
    progress.line(
        f"{results['train_images_per_second']:,.0f} images/s, {reached / 1e12:.2f} TFLOP/s: "
        f"{results['matmul_peak_share']:.1%} of the measured matmul peak of {peak / 1e12:.2f} "
        f"TFLOP/s; refreshes take {results['refresh_share']:.1%} of an epoch"
    )
    start = time.monotonic()
    results |= training.evaluate()
    results["evaluate_seconds"] = time.monotonic() - start
    for name in ("knn_top1", "linear_top1", "untrained_knn_top1"):
        if name in results:
            progress.line(f"{name} {results[name]:.1%}")
    return results
