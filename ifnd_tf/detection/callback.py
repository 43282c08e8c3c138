"""Incremental false negative detection as a Keras callback."""

import math
from typing import Any

import keras
import numpy as np

from ifnd_tf.detection import metrics
from ifnd_tf.detection.detectors import Detection, Detector
from ifnd_tf.detection.schedule import acceptance_rate
from ifnd_tf.errors import UserError
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress


class IncrementalDetection(keras.callbacks.Callback):
    """Before an epoch: embed, cluster, accept, and write the label variable.

    Works on any Keras model with an attribute `pseudo_labels`: a non-trainable int32 variable
    [L, N], -1 at first, that its loss masks by (see examples/own_model.py).

    Args:
        detector: finds the labels.
        epochs: of the whole run.
        true_labels: int32 [N], -1 where unknown; used for statistics only. None: no statistics.
        warmup_epochs: epochs before the first detection.
        refresh_epochs: epochs between two detections.
        schedule: linear, cosine, step or constant; see `schedule.acceptance_rate`.
        start: accepted share at the end of warm-up.
        end: accepted share from `end_epoch` on.
        end_epoch: the epoch, counted from 1, at which the schedule ends; 0: the last.
        progress: the terminal; None: prints nothing.
        run: the run directory, for labels, confidences and statistics.

    Raises:
        UserError: if an argument is out of its range.

    The epoch's logs get `detection_*`: acceptance rate, accepted share, churn since the last
    refresh, cluster sizes and, with true labels, precision, recall and F1 of the detected
    pairs, the precision of as many nearest-neighbour pairs, NMI and purity; None where nothing
    was accepted.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        epochs: int,
        true_labels: np.ndarray | None = None,
        warmup_epochs: int = 0,
        refresh_epochs: int = 1,
        schedule: str = "linear",
        start: float = 0.0,
        end: float = 1.0,
        end_epoch: int = 0,
        progress: Progress | None = None,
        run: RunDirectory | None = None,
    ):
        super().__init__()
        ranges = {"start": (start, 0, 1), "end": (end, 0, 1),
                  "warmup_epochs": (warmup_epochs, 0, math.inf),
                  "refresh_epochs": (refresh_epochs, 1, math.inf)}  # fmt: skip
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise UserError(
                    f"{name}: expected a value from {low} to {high}. Received: {value}."
                )
        self._detector, self._true_labels = detector, true_labels
        self._warmup, self._refresh, self._epochs = warmup_epochs, refresh_epochs, epochs
        self._schedule, self._start, self._end = schedule, start, end
        self._length = max(1, (end_epoch or epochs) - 1 - warmup_epochs)
        self._progress, self._run = progress or Progress(enabled=False), run
        self._latest: dict[str, float | None] = {}

    def set_model(self, model: keras.Model) -> None:
        """Keras' hook.

        Raises:
            UserError: if the model lacks the variable, or there are not as many true labels.
        """
        variable, truth = getattr(model, "pseudo_labels", None), self._true_labels
        if self._detector.num_levels and variable is None:
            raise UserError(
                "IncrementalDetection: expected a model with a non-trainable int32 variable "
                f"`pseudo_labels` [L, N]. Received: {type(model).__name__} without one; "
                "examples/own_model.py has one."
            )
        if variable is not None and truth is not None and len(truth) != variable.shape[1]:
            raise UserError(
                f"true_labels: expected one for each of the {variable.shape[1]} examples of "
                f"pseudo_labels. Received: {len(truth)}."
            )
        super().set_model(model)

    def get_state(self) -> dict[str, float | None]:
        """The statistics of the last refresh, for the logs of the epochs until the next."""
        return self._latest

    def set_state(self, state: dict[str, float | None]) -> None:
        """Restores the state."""
        self._latest = state

    def rate(self, epoch: int) -> float:
        """The acceptance rate of the refresh before `epoch`; 1 for given labels."""
        if not self._detector.incremental:
            return 1.0
        progress = min(1.0, (epoch - self._warmup) / self._length)
        return acceptance_rate(progress, schedule=self._schedule, start=self._start, end=self._end)

    def due(self, epoch: int) -> bool:
        """Whether labels are refreshed before `epoch` (counted from 0)."""
        if self._detector.num_levels == 0:
            return False
        if not self._detector.incremental:
            return epoch == 0
        if epoch < self._warmup or (epoch - self._warmup) % self._refresh:
            return False
        return self._detector.can_detect(self.rate(epoch))

    @property
    def first(self) -> int | None:
        """The epoch (from 0) before which labels are found first; None: never."""
        return next((epoch for epoch in range(self._epochs) if self.due(epoch)), None)

    def on_epoch_begin(self, epoch, logs=None):
        if not self.due(epoch):
            return
        rate = self.rate(epoch)
        where = f"epoch {epoch + 1}/{self._epochs}  "
        found = self._detector.detect(rate, lambda name: self._progress.phase(name, where))
        before = self.model.pseudo_labels.numpy()
        self.model.pseudo_labels.assign(found.labels)
        if getattr(self.model, "label_confidence", None) is not None:
            self.model.label_confidence.assign(found.confidence)
        statistics = {"epoch": epoch, "acceptance_rate": rate} | self._statistics(before, found)
        missed = (self._latest.get("detection_embedded") or 0) - statistics.get("embedded", 0)
        if missed > 0:  # Training itself notices and lists what it cannot read.
            self._progress.line(
                f"warning: {missed:.0f} fewer images could be read for this detection than for the "
                "last; they have no pseudo-label until the next"
            )
        self._latest = {
            f"detection_{name}": None if value is None else float(value)
            for name, value in statistics.items()
            if not isinstance(value, list) and name != "epoch"
        }
        if self._run is not None:
            confidence = found.confidence.astype(np.float16)
            self._run.write_detection(epoch, statistics, labels=found.labels, confidence=confidence)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self._latest)

    def _statistics(self, before: np.ndarray, found: Detection) -> dict[str, Any]:
        labels, truth = found.labels, self._true_labels
        statistics = {"accepted_share": float(np.mean(labels >= 0)), **found.statistics}
        if np.any(before >= 0):  # Compared with no labels, every pair is new.
            statistics["label_churn"] = metrics.label_churn(before, labels)
        if truth is not None and np.any(truth >= 0):
            statistics |= metrics.detection_statistics(labels, truth)
            if found.sample is not None:
                points, examples = found.sample
                statistics |= metrics.neighbour_statistics(
                    points, labels[:, examples], truth[examples]
                )
        return statistics
