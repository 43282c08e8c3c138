"""Checkpoints while training: how much a crash costs, whatever the disk's speed."""

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute.strategies import ALONE, Workers
from ifnd_tf.errors import UserError
from ifnd_tf.run.checkpoints import CheckpointStore, Snapshot
from ifnd_tf.training.callbacks.checkpointing import Checkpointing
from ifnd_tf.training.callbacks.save_policy import SavePolicy

pytestmark = pytest.mark.faults


class Disk(CheckpointStore):
    """A disk whose writes take so many seconds, in turn; an error in their place is raised."""

    def __init__(self, folder, takes):
        super().__init__(str(folder))
        self.takes, self.written = itertools.cycle(takes), []

    def write(self, snapshot):
        take = next(self.takes)
        if isinstance(take, Exception):
            raise take
        time.sleep(take)
        super().write(snapshot)
        self.written.append(snapshot.step)


def checkpointing(disk, steps_per_epoch, *, workers=ALONE, **rules):
    """The callback under such rules, saving a variable."""
    policy, variable = SavePolicy(**rules), tf.Variable(0.0)
    return Checkpointing(disk, policy, steps_per_epoch=steps_per_epoch, workers=workers, v=variable)


def train(saving, epochs, steps=10, seconds=0.0):
    """Drives the callback as a run of so many epochs; yields each step when it is done."""
    saving.set_model(SimpleNamespace(stop_training=False))
    saving.set_params({"epochs": epochs})
    saving.on_train_begin()
    for epoch in range(epochs):
        saving.on_epoch_begin(epoch)
        for batch in range(steps):
            time.sleep(seconds)
            yield epoch * steps + batch + 1
            saving.on_train_batch_end(batch)
        saving.on_epoch_end(epoch)
    saving.on_train_end()
    saving.close()


@pytest.mark.parametrize("takes", [[0.0], [0.02], [0.0, 0.05]])
def test_a_crash_costs_no_more_steps_than_the_interval(takes, tmp_path):
    disk = Disk(tmp_path, takes)
    saving = checkpointing(disk, 10, steps=4)
    lost = [step - disk.written[-1] for step in train(saving, epochs=3, seconds=0.005)]
    assert max(lost) <= 4
    assert disk.written[0] == 0 and disk.written[-1] == 30


def test_a_quick_disk_is_not_written_more_often_than_asked(tmp_path):
    disk = Disk(tmp_path, [0.0])
    saving = checkpointing(disk, 100, steps=20)
    list(train(saving, epochs=1, steps=100, seconds=0.01))
    assert len(disk.written) == 7  # before the first step, 5 within, at the end


def test_minutes_count_from_what_is_on_disk(tmp_path):
    disk = Disk(tmp_path, [0.02])
    saving = checkpointing(disk, 100, minutes=0.1 / 60)
    begin, within = time.monotonic(), 0
    for _ in train(saving, epochs=1, steps=100, seconds=0.005):
        within = len(disk.written)
    # At least 0.5 s at one every 0.1 s; a writing that takes longer than half of that begins the
    # next as much sooner, but never beside itself.
    assert 4 <= within <= 2 + (time.monotonic() - begin) / 0.05


def test_epochs_ends_take_no_more_than_their_share(tmp_path, monkeypatch):
    take = Snapshot.take

    def slow(*args):
        time.sleep(0.01)
        return take(*args)

    monkeypatch.setattr(Snapshot, "take", slow)
    disk = Disk(tmp_path, [0.0])
    saving = checkpointing(disk, 2)
    begin = time.monotonic()
    list(train(saving, epochs=60, steps=2, seconds=0.02))
    within = [step for step in disk.written if 0 < step < 120]
    assert 0.01 * len(within) <= 0.02 * (time.monotonic() - begin)
    assert disk.written[0] == 0 and disk.written[-1] == 120


def test_a_run_stopped_at_an_epochs_end_is_saved_there(tmp_path):
    disk = Disk(tmp_path, [0.0])
    saving = checkpointing(disk, 2)
    for step in train(saving, epochs=5, steps=2):
        if step == 6:
            saving.model.stop_training = True
            break
    saving.on_epoch_end(2)
    saving.close()
    assert disk.written == [0, 6]


@pytest.mark.parametrize("interrupted", [0, 1])
def test_a_signal_on_another_worker_stops_this_one_too(interrupted, tmp_path):
    workers = Workers(0, 2, lambda own: np.stack([own, [0, interrupted]]))
    saving = checkpointing(Disk(tmp_path, [0.0]), 20, workers=workers)
    next(steps := train(saving, epochs=1, steps=20))
    while not saving.model.stop_training and next(steps, None):
        pass
    saving.close()
    assert saving.stopped == saving.model.stop_training == bool(interrupted)


def test_a_failed_write_stops_training_at_the_next_step_or_the_end(tmp_path):
    disk = Disk(tmp_path, [0.0, UserError("full")])
    saving = checkpointing(disk, 10, steps=4)
    done = []
    with pytest.raises(UserError, match="full"):
        for step in train(saving, epochs=2, seconds=0.005):
            done.append(step)
    saving.close()
    assert done[-1] <= 5 and disk.written == [0]
