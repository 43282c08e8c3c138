"""Signs of collapse while training: numbers every epoch, and warnings."""

from collections.abc import Mapping
from typing import Any

import keras

from ifnd_tf.evaluation import collapse
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress

# Embeddings to measure: enough for precise statistics, in a tenth of a second.
_ROWS = 2048


class Health(keras.callbacks.Callback):
    """Measures the newest embeddings at each epoch's end; warns once of each unhealthy value.

    Does not warn in the first tenth of the epochs, in which the learning rate may still be
    warming up. The warnings are kept in results.json, as `training_warnings`, unless the value has
    become healthy since.

    Args:
        epochs: the run's length.
        progress: the terminal.
        directory: the run directory.
    """

    def __init__(self, *, epochs: int, progress: Progress, directory: RunDirectory):
        super().__init__()
        self._epochs = epochs
        self._progress, self._directory = progress, directory
        self._warned: dict[str, str] = {}

    def get_state(self) -> dict[str, str]:
        """The warnings so far, by the name of the value, so that a resumed run repeats none."""
        return dict(self._warned)  # a thread writes it while training goes on

    def set_state(self, state: dict[str, str]) -> None:
        """Restores the state."""
        self._warned = dict(state)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        logs.update(self.values(logs))
        if epoch < self._epochs // 10:
            return
        # Later records were left by a process that died.
        before = [record for record in self._directory.metrics() if record["epoch"] <= epoch]
        for name in [n for n in logs if logs[n] is not None and n not in self._warned]:
            records = (*before, logs)
            values = [record[name] for record in records if record.get(name) is not None]
            for text in collapse.training_warnings(name, values, epoch + 1 == self._epochs):
                self._warned[name] = f"epoch {epoch + 1}: {text}"
                self._progress.line(f"warning: {self._warned[name]}")
        if self._warned:
            holds = [
                text
                for name, text in self._warned.items()
                if logs.get(name) is None or collapse.beyond(name, logs[name])
            ]
            self._directory.write_results({"training_warnings": holds})

    def values(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """`health_*` of the model's newest embeddings; empty while there are too few."""
        newest = self.model.newest_embeddings()
        if len(newest) < 2:
            return {}
        # Evenly spaced, not the first ones: a queue's neighbours come from one step.
        rows = newest[:: max(1, len(newest) // _ROWS)][:_ROWS]
        found = dict(collapse.collapse_measures(rows))
        if "positive_similarity" in logs:
            # |x - y|^2 = 2 - 2 x.y of unit vectors, over all views of the epoch.
            found["health_alignment"] = 2.0 - 2.0 * float(logs["positive_similarity"])
        return found
