"""Trains, refreshes and evaluates, from the step at which the last session ended."""

import collections
import functools
import statistics
import sys
import time
from typing import Any

import numpy as np

from ifnd_tf.run.progress import Progress, duration, epoch_line
from jax_runner import order
from jax_runner.artifact import Artifact
from jax_runner.detection import Refresh
from jax_runner.evaluation import Evaluation
from jax_runner.images import Images
from jax_runner.run_directory import RunDirectory

# Steps that may be under way on the device while the host prepares the next.
_AHEAD = 4
# In a log file every tenth epoch gets a line; metrics.jsonl has all of them.
_LOGGED_EPOCHS = 10
_PAIRS = ("precision", "recall", "f1")
_NAMES = ("loss", "masked_share", "positive_similarity", "embedding_std")


class Training:
    """One lowered run.

    Args:
        artifact: what is run.
        train: the training images.
        test: labelled images to evaluate on, or None.
        run: the run directory.
        progress: the terminal.

    Attributes:
        state: the variables, in the manifest's order.
        step: steps done.
        losses: the loss's running mean over its epoch, after each step of this session.
    """

    def __init__(
        self,
        artifact: Artifact,
        train: Images,
        test: Images | None,
        run: RunDirectory,
        progress: Progress,
    ):
        manifest, self._artifact = artifact.manifest, artifact
        self._manifest, self._settings = manifest, manifest["settings"]
        self._train, self._run, self._progress = train, run, progress
        self.program = functools.cache(lambda name: artifact.compile(name, train.devices))
        self._refresh = Refresh(artifact, self.program, train, run)
        self._evaluation = None if test is None else Evaluation(artifact, self.program, train, test)
        state: list[Any] = list(artifact.first_state())
        self.step, self.losses = 0, list[float]()
        # The part of the epoch's records that a later session needs.
        self._notes: dict[str, Any] = {"detection": {}, "seconds": 0.0, "phases": {}}
        saved = run.restore()
        if saved is not None:
            arrays, self._notes = saved
            self.step = self._notes.pop("step")
            state = [arrays.pop(str(i)) for i in range(len(state))]
            self._refresh.centroids = {k.removeprefix("centroids_"): v for k, v in arrays.items()}
        self.state = self._put(state)
        done = self.step // self.steps
        self._records = [record for record in run.metrics() if record["epoch"] <= done]

    def _put(self, values: list[Any]) -> list[Any]:
        """Variables on the devices."""
        places = zip(values, self._artifact.sharded_state(), strict=True)
        return [self._train.devices.put(value, sharded=sharded) for value, sharded in places]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self._manifest["steps_per_epoch"]

    def train(self, epochs: int, deadline: float) -> bool:
        """Trains until so many epochs are done, or until the deadline on time.monotonic's clock.

        Returns:
            Whether the epochs are done.
        """
        for name in self._manifest["programs"]:  # now, so that no epoch's speed includes it
            self._progress.status(f"compiling {name} ...")
            self.program(name)
        step = self.program("train")
        self._run.claim()
        pending: collections.deque = collections.deque()
        self._begun = self._saved = time.monotonic()
        mark, mark_step = None, 0
        rows, rows_epoch = np.zeros(0, np.int32), -1
        while self.step < epochs * self.steps:
            epoch, place = divmod(self.step, self.steps)
            if place == 0:
                self._begin(epoch)
            if rows_epoch != epoch:
                count, seed = len(self._train.labels), self._settings["seed"]
                rows, rows_epoch = order.epoch_order(count, seed, epoch), epoch
            size = self._settings["batch_size"]
            index = rows[place * size : (place + 1) * size]
            images = self._train.take(index)
            logs = step(self.state, images=images, index=index, epoch=np.int32(epoch))
            self.step += 1
            pending.append(logs["loss"])
            while len(pending) > (_AHEAD if place + 1 < self.steps and mark else 0):
                self.losses.append(float(pending.popleft()))
            now = time.monotonic()
            if mark is None:  # The first step warms up; speed is taken after it.
                mark, mark_step = now, self.step
            speed = (self.step - mark_step - len(pending)) * size / max(now - mark, 1e-9)
            self._show(epoch, place + 1, epochs, speed)
            if place + 1 == self.steps:
                self._end(epoch, logs, speed, epochs)
                mark = None
            late = time.monotonic() > deadline
            due = place + 1 == self.steps and self._due_to_save(epoch + 1, epochs)
            if late or due:
                self.save()
            if late and self.step < epochs * self.steps:
                return False
        return True

    def save(self) -> None:
        """Writes the state file."""
        arrays = {str(i): value for i, value in enumerate(self.state)}
        arrays |= {f"centroids_{k}": v for k, v in self._refresh.centroids.items()}
        for name, seconds in self._progress.take_seconds().items():
            self._notes["phases"][name] = self._notes["phases"].get(name, 0.0) + seconds
        seconds = self._notes["seconds"] + time.monotonic() - self._begun
        self._run.save(arrays, {**self._notes, "seconds": seconds, "step": self.step})
        self._saved = time.monotonic()

    def evaluate(self) -> dict[str, float]:
        """The results of the protocols, beside the untrained encoder's; {} without labels."""
        results: dict[str, float] = {}
        if self._evaluation is None:
            return results
        with self._progress.phase("evaluating"):
            protocols = [part.strip() for part in self._settings["protocols"].split(",")]
            results |= self._evaluation.protocols(self.state, protocols)
            untrained = self._put(self._artifact.first_state())
            fresh = self._evaluation.protocols(untrained, ["knn"])
            results["untrained_knn_top1"] = fresh["knn_top1"]
        return results

    def summary(self) -> dict[str, Any]:
        """The training's results for results.json."""
        last = self._records[-1]
        results: dict[str, Any] = {
            "epochs": last["epoch"],
            "train_loss": last["loss"],
            "random_loss": self._manifest["random_loss"],
            "train_images_per_second": statistics.median(
                record["images_per_second"] for record in self._records
            ),
            "train_seconds": sum(record["epoch_seconds"] for record in self._records),
        }
        names = [f"{of}_{name}" for of in ("detection", "treatment") for name in _PAIRS]
        return results | {name: last[name] for name in names if name in last}

    def _begin(self, epoch: int) -> None:
        """Refreshes the labels if it is time, and sets the running means to 0."""
        import jax.numpy as jnp

        if self._refresh.due(epoch):
            where = f"epoch {epoch + 1}/{self._settings['epochs']}  "
            self._notes["detection"] = self._refresh(
                epoch, self.state, lambda name: self._progress.phase(name, where)
            )
        for place in self._manifest["means"]:
            self.state[place] = jnp.zeros_like(self.state[place])

    def _end(self, epoch: int, logs: dict[str, Any], speed: float, epochs: int) -> None:
        """Records the epoch."""
        labelled = self._manifest["data"]["classes"] > 0  # else nothing of detection is measured
        names = (name for name in logs if labelled or name in _NAMES)
        values = {name: float(logs[name]) for name in names}
        values |= self._notes["detection"]
        every = self._settings["online_knn_epochs"]
        if (
            self._evaluation is not None
            and every
            and ((epoch + 1) % every == 0 or epoch + 1 == self._settings["epochs"])
        ):
            with self._progress.phase("evaluating", f"epoch {epoch + 1}  "):
                values |= self._evaluation.online(self.state)
        now = time.monotonic()
        values["images_per_second"] = speed
        values["epoch_seconds"] = self._notes["seconds"] + now - self._begun
        self._begun = now
        phases, self._notes["phases"] = self._notes["phases"], {}
        for name, seconds in self._progress.take_seconds().items():
            phases[name] = phases.get(name, 0.0) + seconds
        values |= {f"seconds_{name}": seconds for name, seconds in phases.items()}
        self._notes["seconds"] = 0.0
        self._records.append({"epoch": epoch + 1, "step": self.step, **values})
        self._run.write_metrics(self._records)
        share = refresh_share(values)
        refreshed = f"  refresh {share:.1%} of the epoch" if share else ""
        if sys.stdout.isatty() or (epoch + 1) % _LOGGED_EPOCHS == 0 or epoch + 1 == epochs:
            self._progress.line(epoch_line(epoch + 1, epochs, values) + refreshed)

    def _due_to_save(self, done: int, epochs: int) -> bool:
        minutes = (time.monotonic() - self._saved) / 60.0
        return done == epochs or minutes >= (self._settings["checkpoint_minutes"] or float("inf"))

    def _show(self, epoch: int, place: int, epochs: int, speed: float) -> None:
        loss = f"  loss {self.losses[-1]:.3f}" if self.losses else ""
        left = (epochs * self.steps - self.step) * self._settings["batch_size"]
        pace = f"  {speed:,.0f} images/s  ETA {duration(left / speed)}" if speed else ""
        self._progress.status(
            f"epoch {epoch + 1}/{epochs}  step {place}/{self.steps}  training{loss}{pace}"
        )


def refresh_share(values: dict[str, float]) -> float:
    """The share of an epoch's time that finding labels took."""
    seconds = values.get("seconds_embedding", 0.0) + values.get("seconds_clustering", 0.0)
    return seconds / values["epoch_seconds"]
