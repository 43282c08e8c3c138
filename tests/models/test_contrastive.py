"""MoCo's and SimCLR's steps against the slow reference, and what a step must not do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute import replicas
from ifnd_tf.models.loss import LossSettings
from ifnd_tf.models.moco import EMPTY, MoCo
from ifnd_tf.models.network import Network
from ifnd_tf.models.simclr import SimCLR
from ifnd_tf.models.treatments import rules
from tests import reference
from tests.conftest import make_strategy

N, B, Q, S, D, TAU = 20, 4, 8, 4, 6, 0.2


def network():
    images = keras.Input((S, S, 3))
    features = keras.layers.Flatten()(images)
    head = keras.Input((S * S * 3,))
    return Network(keras.Model(images, features), keras.Model(head, keras.layers.Dense(D)(head)))


def moco(num_levels=2, options=(), mode="eliminate", **loss):
    model = MoCo(
        network(), network(), key_momentum=0.9, num_examples=N, num_levels=num_levels,
        loss=LossSettings(TAU, rules(mode), **loss), **{"queue_size": Q, **dict(options)},
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def simclr(num_levels=2, mode="eliminate", **loss):
    model = SimCLR(
        network(), batch_size=B, num_examples=N, num_levels=num_levels,
        loss=LossSettings(TAU, rules(mode), **loss),
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def batch(seed=0, index=(3, 7, 11, 15)):
    rng = np.random.default_rng(seed)
    return {
        "index": tf.constant(index, tf.int32),
        "images": tf.constant(rng.normal(size=(B, 2, S, S, 3)), tf.float32),
    }


def labels(seed=0):
    """[2, N] labels of four clusters, a third of them not accepted."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((2, N)) < 1 / 3, -1, rng.integers(0, 4, (2, N))).astype(np.int32)


def fill(model, seed=5):
    """Random unit keys of random examples, among them the anchors' own, and an empty slot."""
    rng = np.random.default_rng(seed)
    queue = rng.normal(size=(Q, D))
    queue /= np.linalg.norm(queue, axis=1, keepdims=True)
    index = np.array([3, 5, 7, 1, EMPTY, 2, 19, 8], np.int32)
    model.queue.assign(queue)
    model.queue_index.assign(index)
    return queue, index


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_moco_loss_equals_the_reference(mode):
    model = moco(mode=mode)
    data, table = batch(), labels()
    model.pseudo_labels.assign(table)
    queue, queue_index = fill(model)
    queries = model.network.embed(data["images"][:, 0]).numpy()
    keys = model.key_network.embed(data["images"][:, 1]).numpy()
    expected = reference.queue_loss(
        queries, keys, queue, data["index"].numpy(), queue_index, table, TAU, mode
    )
    found = model.train_step(data)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_simclr_loss_equals_the_reference(mode):
    model = simclr(mode=mode)
    data, table = batch(), labels()
    model.pseudo_labels.assign(table)
    first, second = (model.network.embed(data["images"][:, v]).numpy() for v in (0, 1))
    expected = reference.nt_xent(first, second, data["index"].numpy(), table, TAU, mode)
    np.testing.assert_allclose(model.train_step(data)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("make", [moco, simclr])
def test_union_is_one_loss_of_the_pairs_found_at_any_level(make):
    # Labels that join what either level joins: 3, 7 and 11 of the batch by 0, 2 and 5 by 1.
    table = np.full((2, N), -1, np.int32)
    table[0, [3, 7, 2, 19]] = [0, 0, 1, 1]
    table[1, [7, 11, 5, 8]] = [0, 0, 1, 1]
    found = np.stack([level[:, None] == level for level in table]) & (table >= 0)[:, :, None]
    either = found.any(axis=0)
    anchors, negatives = np.array([3, 7, 11, 15]), np.arange(N)
    model = make(level_combination="union")
    model.pseudo_labels.assign(table)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(B + B + N, D)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, keys, others = np.split(vectors, [B, 2 * B])
    loss = model.contrastive_loss(
        *map(tf.constant, (queries, keys, others)),
        (tf.constant(anchors, tf.int32), tf.constant(negatives, tf.int32)),
        valid=tf.ones([N], tf.bool),
    )  # fmt: skip
    expected = [
        reference.anchor_loss(
            queries[b] @ keys[b],
            [queries[b] @ others[n] for n in negatives if n != i],
            [either[i, n] for n in negatives if n != i],
            TAU,
            "eliminate",
        )
        for b, i in enumerate(anchors)
    ]
    np.testing.assert_allclose(loss.per_anchor, expected, rtol=1e-5)
    assert either[7].sum() == 3 and found[0, 7].sum() == 2  # itself, 3 and, by the union, 11


def test_a_step_tells_how_alike_the_views_are_and_how_spread_the_embeddings():
    model, data = simclr(), batch()
    first, second = (model.network.embed(data["images"][:, v]).numpy() for v in (0, 1))
    found = model.train_step(data)
    anchors, positives = np.concatenate([first, second]), np.concatenate([second, first])
    np.testing.assert_allclose(
        found["positive_similarity"], np.mean(np.sum(anchors * positives, axis=1)), rtol=1e-5
    )
    spread = np.sqrt(np.mean(np.var(anchors, axis=0))) * np.sqrt(D)
    np.testing.assert_allclose(found["embedding_std"], spread, rtol=1e-5)


@pytest.mark.distribution
def test_an_overflow_on_one_replica_is_no_step_on_any():
    strategy = make_strategy("mirrored-2")
    with strategy.scope():
        model = simclr()
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, jit_compile=False)
        optimizer.build(model.trainable_variables)

    def step():
        with tf.GradientTape() as tape:
            scale = tf.where(replicas.replica_id() == 1, float("inf"), 1.0)
            loss = scale * tf.add_n([tf.reduce_sum(v.value) for v in model.trainable_variables])
        model.minimise(tape, loss)

    before = model.projector.get_weights()
    replicas.on_replicas(strategy, step)()
    for value, expected in zip(model.projector.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_newest_embeddings_are_those_of_the_last_step():
    data, model = batch(), simclr()
    expected = model.network.embed(data["images"][:, 0]).numpy()
    model.train_step(data)
    np.testing.assert_allclose(model.newest_embeddings(), expected, atol=1e-6)
    model = moco()
    assert len(model.newest_embeddings()) == 0
    model.train_step(data)
    assert len(model.newest_embeddings()) == B


def test_without_a_detector_moco_is_plain_and_keeps_its_own_older_keys():
    model = moco(num_levels=0)
    data = batch()
    queue, queue_index = fill(model)
    queries = model.network.embed(data["images"][:, 0]).numpy()
    keys = model.key_network.embed(data["images"][:, 1]).numpy()
    positive = np.sum(queries * keys, axis=1, keepdims=True)
    logits = np.concatenate([positive, queries @ queue[queue_index >= 0].T], axis=1) / TAU
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[:, 0])
    np.testing.assert_allclose(model.train_step(data)["loss"], expected, rtol=1e-5)
    assert not any("pseudo_labels" in weight.name for weight in model.weights)


def test_labels_of_minus_one_change_only_the_own_keys():
    plain, labelled = moco(num_levels=0), moco()
    labelled.network.encoder.set_weights(plain.network.encoder.get_weights())
    labelled.network.projector.set_weights(plain.network.projector.get_weights())
    labelled.key_network.projector.set_weights(plain.key_network.projector.get_weights())
    for model in (plain, labelled):
        fill(model)
        model.queue_index.assign([0, 5, 6, 1, EMPTY, 2, 19, 8])  # none of the batch's
    data = batch()
    np.testing.assert_allclose(
        plain.train_step(data)["loss"], labelled.train_step(data)["loss"], rtol=1e-6
    )


def test_keys_enter_the_queue_in_order_and_wrap_round():
    model = moco(options={"queue_size": 3 * B})
    for seed in range(4):
        data = batch(seed, np.arange(seed * B, (seed + 1) * B))
        newest = model.keys(data["images"][:, 1])[0]
        model.train_step(data)
    np.testing.assert_array_equal(model.queue_index, [*range(12, 16), *range(4, 12)])
    np.testing.assert_allclose(model.queue[:B], newest, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.queue, axis=1), np.ones(3 * B), rtol=1e-6)


def test_split_keys_come_back_in_the_order_of_their_images():
    model = moco(options={"batch_norm": "split", "batch_norm_splits": 2})
    images = tf.random.stateless_normal([8, S, S, 3], seed=[1, 2])
    np.testing.assert_allclose(model.keys(images)[0], model.key_network.embed(images), rtol=1e-5)


def test_the_key_network_follows_and_is_not_trained():
    model = moco()
    before = model.key_projector.get_weights()[0]
    fill(model)
    model.train_step(batch())
    query = model.projector.get_weights()[0]
    assert np.abs(query - before).max() > 1e-4
    np.testing.assert_allclose(
        model.key_projector.get_weights()[0], 0.9 * before + 0.1 * query, rtol=1e-5, atol=1e-7
    )
    trained = {id(variable) for variable in model.trainable_variables}
    assert not trained & {id(variable) for variable in model.key_projector.variables}


def test_new_labels_hold_for_the_whole_queue_without_a_retrace():
    model = moco()
    step = tf.function(model.train_step)
    fill(model)
    step(batch())
    shares = []
    for value in (-1, 0):
        model.pseudo_labels.assign(np.full((2, N), value, np.int32))
        model.reset_metrics()
        shares.append(float(step(batch())["masked_share"]))
    assert shares == [0.0, 1.0]
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("make", [moco, simclr])
def test_the_step_compiles_under_xla_and_gives_the_same(make):
    results = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        model = make()
        model.pseudo_labels.assign(labels())
        step = tf.function(model.train_step, jit_compile=jit)
        losses = [float(step(batch(seed))["loss"]) for seed in range(3)]
        results.append((losses, model.projector.get_weights()[0]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


def slope(function, variable, direction):
    """The derivative of `function` along a direction, from two values of it."""
    value, step = variable.numpy(), 1e-3
    found = []
    for sign in (1, -1):
        variable.assign(value + sign * step * direction)
        found.append(function())
    variable.assign(value)
    return (found[0] - found[1]) / (2 * step)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("mode", ["eliminate", "attract"])
@pytest.mark.parametrize("make", [moco, simclr])
def test_a_step_goes_down_the_gradient_of_the_reference(make, mode, rescale):
    """SGD's first step is the gradient; the reference tells its slope in a random direction."""
    model, data, table = make(mode=mode, rescale_negatives=rescale), batch(), labels()
    model.pseudo_labels.assign(table)
    options = {"kind": mode, "rescale": rescale}

    def embedded(view, network=model.network):
        return network.embed(data["images"][:, view]).numpy().astype(np.float64)

    index = data["index"].numpy()
    if make is moco:
        queue, queue_index = fill(model)
        keys = embedded(1, model.key_network)

        def loss():
            return reference.queue_loss(
                embedded(0), keys, queue, index, queue_index, table, TAU, **options
            )
    else:

        def loss():
            return reference.nt_xent(embedded(0), embedded(1), index, table, TAU, **options)

    kernel = model.projector.trainable_variables[0]
    direction = np.random.default_rng(4).normal(size=kernel.shape).astype(np.float32)
    expected, before = slope(loss, kernel, direction), kernel.numpy()
    model.train_step(data)
    gradient = (before - kernel.numpy()) / 0.1  # the learning rate
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=2e-3, atol=1e-3)
