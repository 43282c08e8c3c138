"""Keeps status.json up to date while the stages of a run go on."""

import contextlib
import functools
import signal
from collections.abc import Iterator

from ifnd_tf.config import Config
from ifnd_tf.errors import Stopped
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.progress import Progress


@contextlib.contextmanager
def written(directory: RunDirectory, progress: Progress, config: Config) -> Iterator[None]:
    """Mirrors the terminal's status line to status.json, and writes how the stages ended.

    The state of a training that was interrupted stays: to evaluate or embed by its last checkpoint
    does not finish it.
    """
    interrupted = None if "train" in config.stages else _interrupted(directory)
    progress.mirror = functools.partial(directory.write_status, "running")
    end = "finished", f"finished {', '.join(config.stages)}"
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        name = signal.Signals(stop.number).name if isinstance(stop, Stopped) else "SIGINT"
        end = "stopped", f"stopped by {name}"
        raise
    except BaseException as error:
        end = "failed", (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise
    finally:
        progress.mirror = None
        directory.write_status(*(interrupted or end))


def _interrupted(directory: RunDirectory) -> tuple[str, str] | None:
    """State and text of a training that was interrupted; None if none was."""
    status, metrics = directory.status(), directory.metrics()
    epochs = directory.flags().get("epochs", "")
    done = metrics[-1]["epoch"] if metrics else 0
    if not epochs.isdecimal() or not 0 < done < int(epochs):
        return None
    # No other process works here, so a training whose state is running has died.
    running = {"running": ("stopped", "stopped without a message")}
    state = status.get("state", "finished")
    return None if state == "finished" else running.get(state, (state, status.get("text", "")))
