"""The logs of every epoch to Weights & Biases or MLflow, where a flag asks for it."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from keras.callbacks import LambdaCallback

from ifnd_tf.errors import UserError


def wandb(experiment: str, settings: Mapping[str, Any], workdir: str) -> LambdaCallback:
    """Weights & Biases, set up by its own variables (WANDB_MODE, WANDB_ENTITY, ...).

    Args:
        experiment: the run's name.
        settings: the run's flags.
        workdir: where wandb keeps its files.
    """
    with _opening("wandb"):
        run = installed("wandb").init(
            project="ifnd_tf", name=experiment, config=dict(settings), dir=workdir
        )
    return LambdaCallback(
        on_epoch_end=lambda epoch, logs: run.log(_numbers(logs), step=epoch + 1),
        on_train_end=lambda logs: run.finish(),
    )


def mlflow(experiment: str, settings: Mapping[str, Any]) -> LambdaCallback:
    """MLflow, at MLFLOW_TRACKING_URI or in its default place.

    Args:
        experiment: the run's name.
        settings: the run's flags.
    """
    tracker = installed("mlflow")
    with _opening("mlflow"):
        tracker.set_experiment("ifnd_tf")
        tracker.start_run(run_name=experiment)
        tracker.log_params(dict(settings))
    return LambdaCallback(
        on_epoch_end=lambda epoch, logs: tracker.log_metrics(_numbers(logs), step=epoch + 1),
        on_train_end=lambda logs: tracker.end_run(),
    )


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
    """Turns the errors of a tracker without server, key or store into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a library may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--{package}: expected a place to log to. Received: {reason} Set it up by {package}'s "
            f"own variables, or leave --{package} out."
        ) from error


def _numbers(logs: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items() if value is not None}
