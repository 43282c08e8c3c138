import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.treatments import rules
from ifnd_tf.models.treatments.wcl import components
from tests import reference
from tests.models.treatments.harness import HOWS, TAU, Treated, treated_loss

IMAGES, REPLICAS = 12, 2


def graph(points):
    """The component of each point, by walking along the edges of the 1-NN graph."""
    alike = points @ points.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argmax(alike, axis=1)
    joined = {n: {int(nearest[n]), *np.flatnonzero(nearest == n)} for n in range(len(points))}
    component = np.full(len(points), -1)
    for start in range(len(points)):
        reached = [start]
        for node in reached:
            reached += [n for n in joined[node] if n not in reached]
        component[start] = min(reached)
    return component


def views(seed=0, width=4):
    """Unit vectors [2, images, D]."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(IMAGES, width)) + 0.5 * random.normal(size=(2, IMAGES, width))
    return (points / np.linalg.norm(points, axis=2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_the_walk(seed):
    points = np.random.default_rng(seed).normal(size=(50, 3)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    expected = graph(points)
    found = components(tf.constant(points)).numpy()
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)
    assert 3 < len(set(expected)) < 25


def test_equal_points_are_one_component():
    np.testing.assert_array_equal(components(tf.ones([5, 3])), np.zeros(5))


@pytest.mark.parametrize("how", HOWS)
def test_equals_the_formula_on_a_replica_of_two(how):
    """The second replica's anchors among the candidates [replica, view, image] of both."""
    pair, index = views(), np.random.default_rng(1).permutation(40)[:IMAGES].astype(np.int32)
    half = IMAGES // REPLICAS
    places = [(v, r * half + n) for r in range(REPLICAS) for v in (0, 1) for n in range(half)]
    candidates = np.array([pair[v, n] for v, n in places])
    own = places[IMAGES:]
    anchors, keys = (np.array([pair[(v + flip) % 2, n] for v, n in own]) for flip in (0, 1))
    of = np.array([index[n] for _, n in places])
    valid = np.array([[n != m for _, m in places] for _, n in own])
    positive, logits = np.sum(anchors * keys, axis=1) / TAU, anchors @ candidates.T / TAU
    settings, plain = LossSettings(TAU, rules("wcl")), label_info_nce.python_function

    def loss(positive, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            found = plain(
                positive, logits, tf.constant(valid), tuple(map(tf.constant, (of[IMAGES:], of))),
                (tf.zeros([0, IMAGES], tf.int32), tf.zeros([0, 2 * IMAGES], tf.int32)), settings,
                RuleInputs({}, embeddings=tuple(map(tf.constant, (keys, candidates)))),
            )  # fmt: skip
        return found, tape.gradient(found.per_anchor, logits)

    if how != "eager":
        loss = tf.function(loss, jit_compile=how == "xla", autograph=False)
    found, gradient = loss(tf.constant(positive), tf.constant(logits))
    component, pairs = [graph(each) for each in pair], 0
    for b, (view, image) in enumerate(own):
        used = np.flatnonzero(valid[b])
        same = [component[1 - view][image] == component[1 - view][places[j][1]] for j in used]
        targets = np.array([1.0, *same]) / (1 + sum(same))
        made = Treated(np.ones(len(used)), targets)
        x = np.array([positive[b], *logits[b, used]], np.float64)
        value = treated_loss(x[0], x[1:], made)
        np.testing.assert_allclose(found.per_anchor[b], value, rtol=3e-6)
        slopes = reference.slopes(lambda x, made=made: treated_loss(x[0], x[1:], made), x)
        np.testing.assert_allclose(gradient.numpy()[b, used], slopes[1:], atol=2e-5)
        pairs += sum(same)
    np.testing.assert_allclose(found.masked_share, pairs / valid.sum(), rtol=1e-6)
