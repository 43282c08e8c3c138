"""The loop: as Keras' own, and from any step."""

import keras
import numpy as np
import pytest

from ifnd_tf.stages import build
from ifnd_tf.training.loop import fit
from tests import tiny
from tests.conftest import make_strategy

STEPS = 5


class Calls(keras.callbacks.Callback):
    """Notes what is called, and stops after so many calls of the step."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.seen, self.left, self.logs = [], stop_after, []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"begin {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)
        if self.left is not None:
            self.left -= 1
            self.model.stop_training = self.left == 0

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(f"end {epoch}")
        self.logs.append({name: float(value) for name, value in logs.items()})


def built(**overrides):
    config = tiny.config(detector="none", **overrides)
    source = tiny.splits().train
    strategy = make_strategy("default")
    model = build.model(config, strategy, num_examples=160, steps_per_epoch=STEPS)
    return model, lambda first: build.training_batches(config, strategy, source, first)


def weights(model):
    return np.concatenate([w.ravel() for w in model.encoder.get_weights()])


@pytest.mark.parametrize("per_call", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_it_does_what_keras_fit_does(per_call):
    # Keras would run 6 steps an epoch at 2 a call; 5 are asked for.
    model, batches = built()
    theirs = Calls()
    model.fit(
        batches(0), epochs=2, steps_per_epoch=STEPS, callbacks=[theirs], shuffle=False, verbose=0
    )
    other, batches = built(steps_per_execution=per_call)
    ours = Calls()
    fit(other, batches(0), steps_per_epoch=STEPS, epochs=2, callbacks=[ours])
    np.testing.assert_array_equal(weights(model), weights(other))
    assert ours.logs == theirs.logs
    if per_call == 1:
        assert ours.seen == theirs.seen
    else:
        assert ours.seen == ["begin 0", 1, 3, 4, "end 0", "begin 1", 1, 3, 4, "end 1"]


@pytest.mark.slow
def test_an_epoch_stopped_in_its_middle_goes_on_there():
    whole, batches = built()
    unbroken = Calls()
    fit(whole, batches(0), steps_per_epoch=STEPS, epochs=2, callbacks=[unbroken])
    model, batches = built()
    first, rest = Calls(stop_after=7), Calls()
    fit(model, batches(0), steps_per_epoch=STEPS, epochs=2, callbacks=[first])
    assert first.seen[-2:] == [0, 1] and len(first.logs) == 1
    fit(model, batches(7), steps_per_epoch=STEPS, epochs=2, first_step=7, callbacks=[rest])
    assert rest.seen == [2, 3, 4, "end 1"]
    assert rest.params["first_step"] == 7
    assert rest.logs == unbroken.logs[1:]
    np.testing.assert_array_equal(weights(model), weights(whole))


def test_nothing_is_left_to_do_at_the_end():
    model, batches = built()
    calls = Calls()
    fit(model, batches(10), steps_per_epoch=STEPS, epochs=2, first_step=10, callbacks=[calls])
    assert calls.seen == []
