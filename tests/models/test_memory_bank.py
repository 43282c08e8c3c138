"""The kept keys against an average written out, on any number of replicas."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute import replicas
from ifnd_tf.models.memory_bank import MemoryBank
from tests.conftest import make_strategy

N, D, B, M = 13, 3, 4, 0.75


def make(strategy, momentum=M):
    return MemoryBank(strategy, num_examples=N, width=D, momentum=momentum)


def update(memory, strategy, steps, *, jit=None):
    """Deals the rows of each batch out to the replicas, as a training step finds them."""
    share = B // strategy.num_replicas_in_sync

    def own(rows):
        return strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant(rows[c.replica_id_in_sync_group * share :][:share])
        )

    def step(keys, index):
        memory.update(replicas.all_gather(keys), replicas.all_gather(index))

    run = tf.function(lambda *rows: strategy.run(step, args=rows), jit_compile=jit)
    for keys, index in steps:
        run(own(np.float32(keys)), own(np.int32(index)))


def read(memory, strategy):
    """Unit vectors by example, and who was seen."""
    parts = tf.function(lambda: strategy.run(memory.read))()
    points, index = (
        np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
        for value in parts
    )
    found = np.full([N, D], np.nan)
    found[index[index >= 0]] = points[index >= 0]
    return found


def batches(epochs=3, seed=0):
    """(keys, index) of epochs that leave the last example of their order out."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(N)
        for start in range(0, N - B + 1, B):
            yield rng.normal(size=(B, D)), order[start : start + B]


def expected(steps):
    """method of the docstring, example by example, in float64."""
    average = {}
    for keys, index in steps:
        for key, i in zip(keys, index, strict=True):
            unit = key / np.linalg.norm(key)
            average[i] = M * average[i] + (1 - M) * unit if i in average else unit
    return np.array([average.get(i, np.zeros(D)) for i in range(N)])


def test_keeps_the_average_of_each_example(strategy):
    memory, steps = make(strategy), list(batches())
    update(memory, strategy, steps)
    average = expected(steps)
    np.testing.assert_allclose(memory.numpy(), average, rtol=1e-5, atol=1e-6)
    length = np.linalg.norm(average, axis=1, keepdims=True)
    assert np.any(length < 0.9)  # or it would not matter when they are normalised
    np.testing.assert_allclose(read(memory, strategy), average / length, rtol=1e-5, atol=1e-6)


def test_what_was_never_seen_has_no_index(strategy):
    memory = make(strategy)
    assert np.isnan(read(memory, strategy)).all()
    update(memory, strategy, [(np.ones([B, D]), [0, 5, 7, N - 1])])
    seen = ~np.isnan(read(memory, strategy)).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(seen), [0, 5, 7, N - 1])


def test_an_update_compiles_under_xla():
    results = []
    for jit in (False, True):
        strategy = make_strategy("default")
        memory = make(strategy)
        update(memory, strategy, batches(), jit=jit)
        results.append(memory.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.distribution
def test_a_checkpoint_goes_on_with_another_number_of_replicas(tmp_path):
    one, four = make_strategy("default"), make_strategy("mirrored-4")
    memory = make(four)
    update(memory, four, batches())
    path = tf.train.Checkpoint(memory=memory).write(str(tmp_path / "saved"))
    for strategy in (one, four):
        other = make(strategy)
        tf.train.Checkpoint(memory=other).read(path).assert_consumed()
        np.testing.assert_array_equal(other.numpy(), memory.numpy())
        np.testing.assert_allclose(read(other, strategy), read(memory, four), rtol=1e-6)


def test_a_saved_memory_of_more_rows_than_one_call_takes(monkeypatch, strategy):
    monkeypatch.setattr("ifnd_tf.models.memory_bank.SAVED_ROWS", 2)
    memory, steps = make(strategy), list(batches())
    update(memory, strategy, steps)
    np.testing.assert_allclose(memory.numpy(), expected(steps), rtol=1e-5, atol=1e-6)
