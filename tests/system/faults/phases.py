"""What a run is doing, told through shared memory to the process that will kill it."""

import contextlib
import functools
import mmap
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import main
from ifnd_tf.detection.detectors import ClusterDetector
from ifnd_tf.stages.modes import STAGES
from ifnd_tf.training.callbacks.checkpointing import Checkpointing

# Where several are going on, the first names it: checkpoints are written beside the steps.
PHASES = ("checkpoint", "refresh", "evaluation", "export", "step")


class Phases:
    """The phases of a forked run, as its parent sees them; they outlive it.

    Attributes:
        step: int64 [1], the last training step that was finished, -1 if none.
        begun, ended: int64 [5], how often each of `PHASES` was.
        seconds: float64 [5], how long each took in all.
    """

    def __init__(self) -> None:
        self.step = _shared(1, np.int64)
        self.begun, self.ended = _shared(len(PHASES), np.int64), _shared(len(PHASES), np.int64)
        self.seconds = _shared(len(PHASES), np.float64)
        self.step[:] = -1

    def now(self) -> str:
        """The phase that is going on; "between" two, or the process's "start"."""
        for number, name in enumerate(PHASES):
            if self.begun[number] > self.ended[number]:
                return name
        return "between" if self.begun.any() else "start"

    def run(self, arguments: list[str]) -> int:
        """main.py, noted; for a process that does nothing else."""
        self._note(ClusterDetector, "detect", "refresh")
        self._note(Checkpointing, "_write", "checkpoint")
        for stage, phase in (("evaluate", "evaluation"), ("export", "export")):
            STAGES[stage] = self._noted(STAGES[stage], phase)
        saved, step = Checkpointing.on_train_batch_end, contextlib.ExitStack()

        def begin(saving: Checkpointing, batch: int, logs: object = None) -> None:
            step.enter_context(self._during("step"))

        def end(saving: Checkpointing, batch: int, logs: object = None) -> None:
            self.step[:] = saving._epoch * saving._steps_per_epoch + batch + 1
            step.close()
            saved(saving, batch, logs)

        Checkpointing.on_train_batch_begin = begin
        Checkpointing.on_train_batch_end = end  # type: ignore[method-assign]
        return main.main(arguments)

    def _note(self, owner: type, name: str, phase: str) -> None:
        setattr(owner, name, self._noted(getattr(owner, name), phase))

    def _noted(self, work: Callable, phase: str) -> Callable:
        @functools.wraps(work)
        def noted(*args: Any, **options: Any) -> Any:
            with self._during(phase):
                return work(*args, **options)

        return noted

    @contextlib.contextmanager
    def _during(self, phase: str) -> Iterator[None]:
        number, start = PHASES.index(phase), time.monotonic()
        self.begun[number] += 1
        try:
            yield
        finally:
            self.ended[number] += 1
            self.seconds[number] += time.monotonic() - start


def _shared(length: int, kind: type) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, 8 * length), kind)
