"""Checkpoints while training: how much a crash costs, whatever the disk's speed."""

import itertools
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf

from ifnd_tf.callbacks.checkpointing import Checkpointing
from ifnd_tf.checkpoints import CheckpointStore
from ifnd_tf.errors import UserError

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


def train(saving, epochs, steps=10, seconds=0.0):
    """Drives the callback as a run of so many epochs; yields each step when it is done."""
    saving.set_model(SimpleNamespace(stop_training=False))
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
    saving = Checkpointing(disk, steps_per_epoch=10, steps=4, v=tf.Variable(0.0))
    lost = [step - disk.written[-1] for step in train(saving, epochs=3, seconds=0.005)]
    assert max(lost) <= 4
    assert disk.written[-1] == 30 and set(disk.written) >= {0, 10, 20}


def test_a_quick_disk_is_not_written_more_often_than_asked(tmp_path):
    disk = Disk(tmp_path, [0.0])
    saving = Checkpointing(disk, steps_per_epoch=100, steps=20, v=tf.Variable(0.0))
    list(train(saving, epochs=1, steps=100, seconds=0.01))
    assert len(disk.written) == 7  # before the first step, 5 within, at the end


def test_minutes_count_from_what_is_on_disk(tmp_path):
    disk = Disk(tmp_path, [0.02])
    saving = Checkpointing(disk, steps_per_epoch=100, minutes=0.1 / 60, v=tf.Variable(0.0))
    gaps = []
    for _ in train(saving, epochs=1, steps=100, seconds=0.005):
        gaps.append(len(disk.written))
    # 0.5 s at one every 0.1 s.
    assert 4 <= gaps[-1] <= 9


def test_a_failed_write_stops_training_at_the_next_step_or_the_end(tmp_path):
    disk = Disk(tmp_path, [0.0, UserError("full")])
    saving = Checkpointing(disk, steps_per_epoch=10, steps=4, v=tf.Variable(0.0))
    done = []
    with pytest.raises(UserError, match="full"):
        for step in train(saving, epochs=2, seconds=0.005):
            done.append(step)
    saving.close()
    assert done[-1] <= 5 and disk.written == [0]
