"""Programs that runs share."""

import tensorflow as tf

from ifnd_tf.distribute import programs
from ifnd_tf.distribute.replicas import first, own_variable

TRACED = []


def scaled(variable, x, *, by):
    TRACED.append(by)
    return by * tf.convert_to_tensor(variable) + x


def test_a_program_is_traced_once_for_all_variables_of_a_shape(strategy):
    def run(value, by, size=3):
        with strategy.scope():
            variable = own_variable(tf.fill([size], value), "variable")
        # Freed after this call, as are the variables of a run that has ended.
        compiled = programs.compiled(strategy, scaled, [variable], tf.TensorSpec([size]), by=by)
        variable.assign_add(tf.ones([size]))
        return first(strategy, compiled(tf.range(size, dtype=tf.float32))).numpy().tolist()

    TRACED.clear()
    assert run(1.0, by=2) == [4.0, 5.0, 6.0]
    assert run(5.0, by=2) == [12.0, 13.0, 14.0]
    assert run(5.0, by=3) == [18.0, 19.0, 20.0]
    assert run(0.0, by=2, size=2) == [2.0, 3.0]
    if strategy.num_replicas_in_sync == 1:
        assert TRACED == [2, 3, 2]
