"""A run of a comparison, trained and evaluated in this process."""

import contextlib
import time
from collections.abc import Generator, Sequence
from typing import NamedTuple

import keras

from ifnd_tf.distribute import strategies
from ifnd_tf.errors import NonFinite, UserError
from ifnd_tf.report.compare_statistics import compared
from ifnd_tf.run import lock
from ifnd_tf.run.progress import duration
from ifnd_tf.stages.evaluate import evaluate, expected
from ifnd_tf.stages.report import write_report
from ifnd_tf.stages.run import Run
from ifnd_tf.stages.train import train

# The entry of results.json for a run whose loss became NaN or infinite: the error.
DIVERGED = "diverged"


class Outcome(NamedTuple):
    """The outcome of a run.

    Attributes:
        place: of the run among those that were given.
        text: its results in a line, or the reason of its failure.
        failed: whether it did.
    """

    place: int
    text: str
    failed: bool


def one_after_the_other(runs: Sequence[Run]) -> Generator[Outcome]:
    """Trains and evaluates runs in this process, and yields the outcome of each.

    The data is opened and decoded once, TensorFlow starts once, and a TPU or several workers,
    which child processes could not share, serve all runs.
    """
    for place, run in enumerate(runs):
        yield outcome(place, run)


def outcome(place: int, run: Run) -> Outcome:
    """Trains and evaluates one run, from its last checkpoint if there is one.

    Its graphs and variables are freed at the end.
    """
    start = time.monotonic()
    try:
        writer = run.directory.writer
        with lock.alone(run.directory.path) if writer else contextlib.nullcontext():
            return Outcome(place, _results(run, start), False)
    except UserError as error:
        if isinstance(error, NonFinite):
            run.directory.write_results({DIVERGED: str(error)})
        return Outcome(place, str(error), True)
    finally:
        keras.utils.clear_session()


def complete(run: Run) -> bool:
    """Whether a run is trained to its end and evaluated by every protocol."""
    results = run.directory.results()
    return results.get("epochs", 0) >= run.config.epochs and all(
        any(name.startswith(start) for name in results) for start in expected(run.config)
    )


def _results(run: Run, start: float) -> str:
    train(run)
    unfinished = run.directory.results().get("epochs", 0) < run.config.epochs
    # The chief's word, since it writes the results when the other workers are done already.
    if any(strategies.workers(run.strategy).any([unfinished and run.directory.writer])):
        return f"stopped after epoch {run.config.stop_after_epoch}"
    evaluate(run)
    write_report(run)
    results = run.directory.results()
    shown = [f"{name} {results[name]:.3f}" for name in compared(results)]
    return "  ".join([*shown, duration(time.monotonic() - start)])
