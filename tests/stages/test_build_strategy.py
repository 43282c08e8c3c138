import pytest
import tensorflow as tf

from ifnd_tf.errors import UserError
from ifnd_tf.stages import build_strategy
from tests import tiny


@pytest.mark.parametrize("deterministic", [False, True])
def test_operations_are_as_deterministic_as_the_flag_says(deterministic, monkeypatch):
    called = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: called.append(True)
    )
    strategy = build_strategy.strategy(tiny.config(deterministic=deterministic))
    assert strategy is tf.distribute.get_strategy()
    assert bool(called) == deterministic


def test_operations_take_as_many_threads_as_the_flag_says(monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", asked.append)
    build_strategy.strategy(tiny.config())
    build_strategy.strategy(tiny.config(threads=3))
    assert asked == [3]


def test_threads_are_refused_once_tensorflow_has_started():
    tf.constant(0.0)
    with pytest.raises(UserError, match="--threads: expected a process .* Received: 7, after"):
        build_strategy.strategy(tiny.config(threads=7))


def test_a_strategy_without_its_devices_is_refused():
    with pytest.raises(UserError, match="--strategy=tpu: expected --tpu=NAME"):
        build_strategy.strategy(tiny.config(strategy="tpu"))
