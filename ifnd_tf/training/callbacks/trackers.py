"""Every epoch's numbers to Weights & Biases or MLflow, where they are installed and asked for."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

import keras

from ifnd_tf.errors import UserError


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Takes the numbers of one epoch, counted from 1."""

    def finish(self) -> None:
        """Closes the run."""


class WandB:
    """Weights & Biases. Its own variables (WANDB_MODE, WANDB_ENTITY, ...) hold as usual.

    Args:
        experiment: the run's name.
        settings: the run's flags.
        workdir: where wandb keeps its files.
    """

    def __init__(self, experiment: str, settings: Mapping[str, Any], workdir: str):
        with _opening("wandb"):
            self._run = installed("wandb").init(
                project="ifnd_tf", name=experiment, config=dict(settings), dir=workdir
            )

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Takes the numbers of one epoch."""
        self._run.log(dict(values), step=epoch)

    def finish(self) -> None:
        """Closes the run."""
        self._run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI or in its default place.

    Args:
        experiment: the run's name.
        settings: the run's flags.
    """

    def __init__(self, experiment: str, settings: Mapping[str, Any]):
        self._mlflow = installed("mlflow")
        with _opening("mlflow"):
            self._mlflow.set_experiment("ifnd_tf")
            self._mlflow.start_run(run_name=experiment)
            self._mlflow.log_params(dict(settings))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Takes the numbers of one epoch."""
        self._mlflow.log_metrics(dict(values), step=epoch)

    def finish(self) -> None:
        """Closes the run."""
        self._mlflow.end_run()


def installed(package: str) -> ModuleType:
    """The package that a flag of the same name needs.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"--{package}: expected the package {package}. Received: {error}; "
            f"pip install {package}, or leave --{package} out."
        ) from error


@contextlib.contextmanager
def _opening(package: str) -> Iterator[None]:
    """Says in a line why a tracker does not start: it may lack a server, a key or a store."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a library raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--{package}: expected a place to log to. Received: {reason} Set it up by {package}'s "
            f"own variables, or leave --{package} out."
        ) from error


class Tracking(keras.callbacks.Callback):
    """Hands every epoch's logs on; belongs at the end of the list.

    Args:
        trackers: where to; opened already, so that a missing package is known before training.
    """

    def __init__(self, trackers: list[Tracker]):
        super().__init__()
        self._trackers = trackers

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in (logs or {}).items()}
        for tracker in self._trackers:
            tracker.log(values, epoch + 1)

    def on_train_end(self, logs=None):
        for tracker in self._trackers:
            tracker.finish()
