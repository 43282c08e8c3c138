"""When to save: each rule alone, on a clock that the test turns."""

import pytest

from ifnd_tf.training.callbacks.save_policy import SavePolicy


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def test_a_first_save_is_due_unless_something_was_restored(clock):
    policy = SavePolicy(clock=clock)
    assert policy.begin()
    policy.restored(7)
    assert not policy.begin()


def test_without_rules_nothing_is_due_within_an_epoch(clock):
    policy = SavePolicy(clock=clock)
    policy.saved(0, 0.0)
    clock.seconds = 1e6
    assert not policy.due(10**6) and not policy.must_wait(10**6)
    assert policy.due_at_epoch_end(10**6)


def test_steps_are_counted_from_the_save_less_the_way_to_the_disk(clock):
    policy = SavePolicy(steps=10, clock=clock)
    policy.saved(0, 0.0)
    policy.on_disk()
    assert next(step for step in range(12) if policy.due(step)) == 9  # a guess of one step
    policy.written_by(3)
    assert next(step for step in range(12) if policy.due(step)) == 7
    policy.written_by(9)  # a slow disk: no more than twice as many saves
    assert next(step for step in range(12) if policy.due(step)) == 5
    assert next(step for step in range(12) if policy.must_wait(step)) == 10


def test_what_is_not_on_disk_yet_makes_training_wait(clock):
    policy = SavePolicy(steps=4, clock=clock)
    policy.restored(8)
    policy.saved(11, 0.0)
    assert policy.must_wait(12)
    policy.on_disk()
    assert not policy.must_wait(14) and policy.must_wait(15)


def test_workers_that_are_asked_seldom_save_as_much_earlier(clock):
    policy = SavePolicy(steps=100, clock=clock)
    policy.saved(0, 0.0)
    assert not policy.due(89, lead=9) and policy.due(90, lead=9)


def test_minutes_are_counted_less_the_way_to_the_disk(clock):
    policy = SavePolicy(minutes=2, clock=clock)
    policy.saved(0, 0.0)
    clock.seconds = 119.0
    assert not policy.due(1)
    clock.seconds = 120.0
    assert policy.due(1)
    policy.saved(1, 0.0)
    clock.seconds = 150.0
    policy.written_by(2)  # after 30 s
    clock.seconds = 209.0
    assert not policy.due(3)
    clock.seconds = 210.0
    assert policy.due(3)


def test_epochs_ends_are_skipped_until_their_share_of_time_has_passed(clock):
    policy = SavePolicy(clock=clock)
    policy.saved(0, 2.0)
    policy.cost += 1.0  # of writing
    clock.seconds = 149.0
    assert not policy.due_at_epoch_end(10)
    clock.seconds = 150.0
    assert policy.due_at_epoch_end(10)


def test_an_epochs_end_is_saved_when_the_steps_or_minutes_have_passed(clock):
    policy = SavePolicy(steps=10, minutes=1, clock=clock)
    policy.saved(0, 100.0)
    assert not policy.due_at_epoch_end(8) and policy.due_at_epoch_end(9)
    clock.seconds = 60.0
    assert policy.due_at_epoch_end(8)
