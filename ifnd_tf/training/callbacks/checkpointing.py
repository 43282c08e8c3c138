"""Checkpoints from which a run goes on as if it had not stopped, written while it trains."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.training.preemption import Interruption

# Several workers must save at the same step, and ask each other every so many calls.
_ASK_EVERY = 10


class Remembers(Protocol):
    """A callback with a state of its own, which JSON can hold."""

    def get_state(self) -> Any:
        """The state."""

    def set_state(self, state: Any) -> None:
        """Takes it back."""


class Checkpointing(keras.callbacks.Callback):
    """Saves before the first step, at epochs' ends, now and then within, and on a signal.

    The step waits only while the variables are copied to memory; a thread writes and hashes
    them, one checkpoint at a time. The data pipeline has no state: order and views follow from
    seed and step. Belongs at the end of the callbacks, so that what others logged at an
    epoch's end is saved with it.

    What a crash costs is counted from the last checkpoint on disk, so the next is taken before
    its interval is over, by as much as the last was in writing.

    Args:
        store: where checkpoints go.
        steps_per_epoch: steps of an epoch.
        share: the most of the time that epochs' ends may spend on checkpoints; an end that comes
            too soon after the last is skipped. The end of training never is, nor one that
            `keep_every_epochs` keeps. 1: none is.
        minutes: the most to lose within an epoch, by the last writing's time; 0: any.
        steps: the most training steps to lose, to within one call of them. Where writing takes
            longer, the next step waits for it. 0: any.
        keep: how many of the newest to keep.
        keep_every_epochs: keep those at every so many epochs' ends as well; 0: none.
        interruption: asks to save and stop; None: nobody does.
        agree: tells every worker whether any worker says so, for each flag; all workers call
            it at the same step. None: there is one worker.
        report: told of damaged checkpoints.
        writer: whether this process is the chief. Other workers take part in copying, as
            collectives demand, and write nothing.
        remembered: callbacks whose state is saved too, by name.
        **objects: what else to save.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        steps_per_epoch: int,
        share: float = 1.0,
        minutes: float = 0.0,
        steps: int = 0,
        keep: int = 2,
        keep_every_epochs: int = 0,
        interruption: Interruption | None = None,
        agree: Callable[[Sequence[bool]], Sequence[bool]] | None = None,
        report: Callable[[str], None] = lambda text: None,
        writer: bool = True,
        remembered: Mapping[str, Remembers] | None = None,
        **objects: Any,
    ):
        super().__init__()
        self._store, self._steps_per_epoch = store, steps_per_epoch
        self._share, self._minutes, self._steps = share, minutes, steps
        self._keep, self._keep_every = keep, keep_every_epochs * steps_per_epoch
        self._interruption, self._agree = interruption, agree
        self._report, self._writer = report, writer
        self._remembered = remembered or {}
        self._checkpoint = tf.train.Checkpoint(**objects)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: concurrent.futures.Future | None = None
        self._saved_step, self._saved_at = -1, time.monotonic()
        self._written_step, self._calls = -1, 0
        # Seconds that the last one took from training: the copy's, and the processor's in writing.
        self._cost = 0.0
        # Steps and seconds from copying to having on disk; the guess before the first.
        self._lag = (1, 0.0)

    def restore(self) -> int:
        """Restores the newest undamaged checkpoint; returns the steps done, 0 if there is none.

        Raises:
            UserError: if checkpoints are there but none is undamaged, or it does not fit.
        """
        self._wait()
        step = self._store.latest(self._report)
        if step is None:
            return 0
        try:
            restored = self._checkpoint.read(self._store.prefix(step))
            restored.assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(
                f"Expected a checkpoint that fits these flags in {self._store.folder}. Received: "
                f"{self._store.path(step)} ({reason}); remove the run directory, or choose another "
                "--workdir."
            ) from error
        notes = self._store.notes(step)
        for name, callback in self._remembered.items():
            callback.set_state(notes["callbacks"][name])
        epoch, done = divmod(step, notes["steps_per_epoch"])
        if notes["steps_per_epoch"] != self._steps_per_epoch:
            self._report(
                f"warning: an epoch had {notes['steps_per_epoch']} steps and has "
                f"{self._steps_per_epoch} now, because other images can be read than before"
            )
            step = epoch * self._steps_per_epoch + min(done, self._steps_per_epoch - 1)
        self._saved_step = self._written_step = step
        return step

    def on_train_begin(self, logs=None):
        first = (self.params or {}).get("first_step", 0)
        self._epoch, self._saved_at = first // self._steps_per_epoch, time.monotonic()
        if self._saved_step < 0:
            # A disk that cannot hold it says so now, and what diverges early can go back.
            self._save(first)
            self._wait()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        step = self._epoch * self._steps_per_epoch + batch + 1
        if self._writing is not None and (self._writing.done() or self._ahead(step)):
            late = not self._writing.done()
            self._wait()
            self._lag = step + late - self._saved_step, time.monotonic() - self._saved_at
        if batch + 1 == self._steps_per_epoch:
            return  # The epoch's end comes next.
        self._calls += 1
        if self._agree is not None and self._calls % _ASK_EVERY:
            return
        due, stop = self._asked([self._due(step), self._interrupted()])
        if stop:
            self.model.stop_training = True
        if due or stop:
            self._save(step)

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self._steps_per_epoch
        worth, stop = self._asked([self._worth(step), self._interrupted()])
        if stop:
            self.model.stop_training = True
        last = epoch + 1 == (self.params or {}).get("epochs")
        if worth or last or self.model.stop_training:
            self._save(step)

    def on_train_end(self, logs=None):
        self._wait()

    def close(self) -> None:
        """Ends the last write and its thread; after an error, as Keras does not."""
        self._thread.shutdown(wait=True)

    def _ahead(self, step: int) -> bool:
        """Whether a crash in the next step would cost more than it may."""
        return bool(self._steps) and step - self._written_step >= self._steps

    def _due(self, step: int) -> bool:
        if not self._writer or self._writing is not None:
            return False
        steps, seconds = self._lag
        if self._agree is not None:
            steps += _ASK_EVERY - 1
        # Rather wait for a slow disk than take more than twice as many.
        early = min(steps, self._steps // 2)
        if self._steps and step - self._saved_step >= max(1, self._steps - early):
            return True
        passed = time.monotonic() - self._saved_at
        return bool(self._minutes) and passed >= 60 * self._minutes - seconds

    def _worth(self, step: int) -> bool:
        """Whether to save at an epoch's end, other than the last."""
        if not self._writer:
            return False
        if self._keep_every and step % self._keep_every == 0:
            return True
        passed = time.monotonic() - self._saved_at
        return self._share >= 1 or self._cost <= self._share * passed

    def _interrupted(self) -> bool:
        return self._interruption is not None and self._interruption.received is not None

    def _asked(self, flags: Sequence[bool]) -> Sequence[bool]:
        return flags if self._agree is None else self._agree(flags)

    def _save(self, step: int) -> None:
        self._wait()
        notes = {
            "steps_per_epoch": self._steps_per_epoch,
            "callbacks": {name: each.get_state() for name, each in self._remembered.items()},
        }
        begin = time.monotonic()
        snapshot = Snapshot.take(step, self._checkpoint, notes)
        self._saved_step, self._saved_at = step, time.monotonic()
        self._cost = self._saved_at - begin
        if self._writer:
            self._writing = self._thread.submit(self._write, snapshot)
        else:
            snapshot.drop()

    def _write(self, snapshot: Snapshot) -> None:
        begin = time.thread_time()
        try:
            self._store.write(snapshot)
        finally:
            snapshot.drop()
        self._store.prune(self._keep, self._keep_every)
        self._cost += time.thread_time() - begin

    def _wait(self) -> None:
        """Until the last checkpoint is written; raises what kept it from being."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
            self._written_step = self._saved_step
