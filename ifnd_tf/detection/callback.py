"""Incremental false negative detection, as a callback: it orchestrates and computes nothing."""

from collections.abc import Callable

import keras
import numpy as np

from ifnd_tf.detection import pseudo_labels
from ifnd_tf.detection.detectors import Detection, Detector
from ifnd_tf.detection.metrics import neighbour_statistics
from ifnd_tf.detection.schedule import acceptance_rate
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress


class IncrementalDetection(keras.callbacks.Callback):
    """Before an epoch: embed, cluster, accept, and write the label variable.

    Works on any Keras model with an attribute `pseudo_labels`: a non-trainable int32 variable
    [L, N], -1 at first, that its loss masks by (see examples/own_model.py).

    Args:
        detector: finds the labels.
        true_labels: int32 [N], -1 where unknown; used for statistics only. None: no statistics.
        warmup_epochs: epochs before the first detection.
        refresh_epochs: epochs between two.
        epochs: the run's length.
        schedule: linear, cosine, step or constant; see `schedule.acceptance_rate`.
        start: accepted share at the end of warm-up.
        end: accepted share at `end_epoch`, and after it.
        end_epoch: the epoch, counted from 1, at which acceptance is complete; 0: the last.
        progress: the terminal; None: says nothing.
        run: the run directory, for labels, confidences and statistics.

    The epoch's logs get `detection_*`: acceptance rate, accepted share, churn since the last
    refresh, cluster sizes and, with true labels, precision, recall and F1 of the detected
    pairs, that of as many nearest-neighbour pairs, NMI and purity.
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
        self._detector, self._true_labels = detector, true_labels
        self._warmup, self._refresh, self._epochs = warmup_epochs, refresh_epochs, epochs
        self._rate: Callable[[float], float] = lambda progress: acceptance_rate(
            progress, schedule=schedule, start=start, end=end
        )
        self._last = (end_epoch or epochs) - 1
        self._progress, self._run = progress or Progress(enabled=False), run
        self._latest: dict[str, float] = {}

    def get_state(self) -> dict[str, float]:
        """What the last refresh found, for the logs of the epochs until the next."""
        return self._latest

    def set_state(self, state: dict[str, float]) -> None:
        """Takes it back."""
        self._latest = state

    def rate(self, epoch: int) -> float:
        """The acceptance rate of the refresh before `epoch`; 1 for given labels."""
        if not self._detector.incremental:
            return 1.0
        length = max(1, self._last - self._warmup)
        return self._rate(min(1.0, (epoch - self._warmup) / length))

    def due(self, epoch: int) -> bool:
        """Whether labels are refreshed before `epoch` (counted from 0)."""
        if self._detector.num_levels == 0:
            return False
        if not self._detector.incremental:
            return epoch == 0
        return epoch >= self._warmup and (epoch - self._warmup) % self._refresh == 0

    def on_epoch_begin(self, epoch, logs=None):
        if not self.due(epoch):
            return
        rate = self.rate(epoch)
        where = f"epoch {epoch + 1}/{self._epochs}  "
        found = self._detector.detect(rate, lambda name: self._progress.phase(name, where))
        before = self.model.pseudo_labels.numpy()
        self.model.pseudo_labels.assign(found.labels)
        self._report(epoch, rate, before, found)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self._latest)

    def _report(self, epoch: int, rate: float, before: np.ndarray, found: Detection) -> None:
        statistics = {
            "epoch": epoch,
            "acceptance_rate": rate,
            "accepted_share": float(np.mean(found.labels >= 0)),
            **found.statistics,
        }
        if np.any(before >= 0):  # After nothing, every pair is new.
            statistics["label_churn"] = pseudo_labels.label_churn(before, found.labels)
        if self._true_labels is not None and np.any(self._true_labels >= 0):
            statistics |= pseudo_labels.detection_statistics(found.labels, self._true_labels)
            if found.sample is not None:
                points, examples = found.sample
                statistics |= neighbour_statistics(
                    points, found.labels[:, examples], self._true_labels[examples]
                )
        missed = self._latest.get("detection_embedded", 0) - statistics.get("embedded", 0)
        if missed > 0:  # Training itself notices and lists what it cannot read.
            self._progress.line(
                f"warning: {missed:.0f} fewer images could be read for this detection than for the "
                "last; they have no pseudo-label until the next"
            )
        self._latest = {
            f"detection_{name}": float(value)
            for name, value in statistics.items()
            if isinstance(value, (int, float)) and name != "epoch"
        }
        if self._run is not None:
            self._run.write_detection(
                epoch,
                statistics,
                labels=found.labels,
                confidence=found.confidence.astype(np.float16),
            )
