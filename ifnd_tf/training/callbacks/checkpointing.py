"""Writes checkpoints while training, from which a run continues as if it had not stopped."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from ifnd_tf.distribute.strategies import ALONE, Workers
from ifnd_tf.errors import UserError
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.training.callbacks.save_policy import SavePolicy
from ifnd_tf.training.preemption import Interruption

# Several workers must save at the same step; they agree on it every so many calls.
_AGREE_EVERY = 10


class Stateful(Protocol):
    """A callback with a state that JSON can hold."""

    def get_state(self) -> Any:
        """The state."""

    def set_state(self, state: Any) -> None:
        """Restores the state."""


class Checkpointing(keras.callbacks.Callback):
    """Saves before the first step, at epochs' ends, within epochs, and on a signal.

    Training waits only while the variables are copied to memory; a thread writes and hashes
    them, one checkpoint at a time. The data pipeline has no state: order and views follow from
    seed and step. Must be the last callback, so that the others' logs of an epoch are saved.

    Args:
        store: where checkpoints go.
        policy: when to save.
        steps_per_epoch: steps of an epoch.
        keep: how many of the newest checkpoints to keep.
        interruption: asks to save and stop, if given.
        workers: the processes of the run, which must save at the same step.
        report: called with warnings.
        writer: whether this process is the chief. Other workers take part in copying, as
            collectives demand, and write nothing.
        states: callbacks whose state is saved too, by name.
        **objects: the other objects to save.

    Attributes:
        stopped: whether a signal to any worker has ended training.
    """

    def __init__(
        self,
        store: CheckpointStore,
        policy: SavePolicy,
        *,
        steps_per_epoch: int,
        keep: int = 2,
        interruption: Interruption | None = None,
        workers: Workers = ALONE,
        report: Callable[[str], None] = lambda text: None,
        writer: bool = True,
        states: Mapping[str, Stateful] | None = None,
        **objects: Any,
    ):
        super().__init__()
        self._store, self._policy = store, policy
        self._steps_per_epoch, self._keep = steps_per_epoch, keep
        self._interruption, self._workers = interruption or Interruption(), workers
        self._agree_every, self._calls = 1 if workers.count == 1 else _AGREE_EVERY, 0
        self._report, self._writer, self._states = report, writer, states or {}
        self._checkpoint = tf.train.Checkpoint(**objects)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: concurrent.futures.Future | None = None
        self.stopped = False

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
        for name, callback in self._states.items():
            if name in notes["callbacks"]:  # Not in checkpoints of an earlier version.
                callback.set_state(notes["callbacks"][name])
        epoch, done = divmod(step, notes["steps_per_epoch"])
        if notes["steps_per_epoch"] != self._steps_per_epoch:
            self._report(
                f"warning: an epoch had {notes['steps_per_epoch']} steps and has "
                f"{self._steps_per_epoch} now, because other images can be read than before"
            )
            step = epoch * self._steps_per_epoch + min(done, self._steps_per_epoch - 1)
        self._policy.restored(step)
        return step

    def on_train_begin(self, logs=None):
        first = (self.params or {}).get("first_step", 0)
        self._epoch = first // self._steps_per_epoch
        if self._policy.begin():
            # A full disk is an error now, and a run that diverges early can go back.
            self._save(first)
            self._wait()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        step = self._epoch * self._steps_per_epoch + batch + 1
        if self._writing is not None and (self._writing.done() or self._policy.must_wait(step)):
            late = not self._writing.done()  # then the write takes part of the next step as well
            self._wait()
            self._policy.written_by(step + late)
        if batch + 1 == self._steps_per_epoch:
            return  # The epoch's end comes next.
        self._calls += 1
        if self._calls % self._agree_every == 0:
            idle = self._writer and self._writing is None
            self._save_if(step, idle and self._policy.due(step, lead=self._agree_every - 1))

    def on_epoch_end(self, epoch, logs=None):
        step, last = (epoch + 1) * self._steps_per_epoch, (self.params or {}).get("epochs")
        due = self._writer and self._policy.due_at_epoch_end(step)
        self._save_if(step, due, surely=epoch + 1 == last or self.model.stop_training)

    def on_train_end(self, logs=None):
        self._wait()

    def close(self) -> None:
        """Ends the last write and its thread; also after an error, when Keras calls no callback."""
        self._thread.shutdown(wait=True)

    def _save_if(self, step: int, due: bool, surely: bool = False) -> None:
        """Saves if `surely`, or if any worker is due or was interrupted, which ends training."""
        due, stop = self._workers.any([due, self._interruption.received is not None])
        if stop:
            self.stopped = self.model.stop_training = True
        if due or stop or surely:
            self._save(step)

    def _save(self, step: int) -> None:
        self._wait()
        notes = {
            "steps_per_epoch": self._steps_per_epoch,
            "callbacks": {name: each.get_state() for name, each in self._states.items()},
        }
        begin = time.monotonic()
        snapshot = Snapshot.take(step, self._checkpoint, notes)
        self._policy.saved(step, time.monotonic() - begin)
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
        self._store.prune(self._keep, snapshot.step)
        self._policy.cost += time.thread_time() - begin

    def _wait(self) -> None:
        """Waits until the last checkpoint is written; raises the error of its writing."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
            self._policy.on_disk()
