"""Soft targets of a teacher's rows against the formula by loops, and what rows must follow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.moco import EMPTY
from ifnd_tf.models.rule import Batch, RuleInputs
from ifnd_tf.models.teacher import DTYPE, Teacher, similarities, weight
from ifnd_tf.models.treatments import rules
from tests import reference
from tests.models import test_contrastive as steps
from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, case, softmax, treated_loss

WIDTH, PART, TEMPERATURE = 6, 0.3, 0.2


def rows(count: int, seed: int = 7, absent=()) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=[count, WIDTH]).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[list(absent)] = 0.0
    return values


def cosines(anchors, candidates) -> np.ndarray:
    """[B, M] by loops; NaN where either has no row."""
    found = np.full([len(anchors), len(candidates)], np.nan)
    for b, anchor in enumerate(anchors):
        for j, candidate in enumerate(candidates):
            if np.any(anchor != 0) and np.any(candidate != 0):
                found[b, j] = np.dot(anchor.astype(float), candidate.astype(float))
    return found


def mixed(targets: np.ndarray, given: np.ndarray, part: float = PART) -> np.ndarray:
    """(1 - w) of the targets [1 + n] and w of the teacher's, on the key without any row."""
    known = np.flatnonzero(np.isfinite(given))
    teacher = np.zeros(len(targets))
    if len(known):
        teacher[1 + known] = softmax(given[known] / TEMPERATURE)
    else:
        teacher[0] = 1.0
    return (1 - part) * targets + part * teacher


def found(text, example, given, teacher, epoch=5):
    """The loss [B] and its gradients, compiled."""
    settings = LossSettings(harness.TAU, rules(text), epochs=10, teacher=teacher)
    labels = np.concatenate([example.labels, np.full((len(example.labels), 1), -1)], axis=1)
    arrays = [tf.constant(x) for x in (example.positive, example.logits)]
    index = tf.constant(example.index), tf.constant(example.queued)
    own = [tf.constant(labels[:, x], tf.int32) for x in (example.index, example.queued)]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        loss = label_info_nce(
            *arrays, index[1] >= 0, index, tuple(own), settings,
            RuleInputs(
                {}, tf.constant(example.teacher), epoch=tf.constant(epoch),
                teacher_similarities=given,
            ),
        ).per_anchor  # fmt: skip
    return loss, tape.gradient(loss, arrays)


FORMULAS = {
    "none": lambda row: Treated(np.ones(len(row.logits)), np.eye(1 + len(row.logits))[0]),
    "decoupled": lambda row: FORMULAS["none"](row)._replace(key_in_sum=False),
    "sce": lambda row: FORMULAS["none"](row)._replace(
        targets=np.array([0.5, *(0.5 * softmax(row.teacher / 0.07))])
    ),
    "eliminate": lambda row: FORMULAS["none"](row)._replace(
        weights=np.where(row.same[0], 0.0, 1.0)
    ),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_the_target_is_part_the_treatments_and_part_the_teachers(text):
    example = case(3, levels=int(text == "eliminate"))
    # The third anchor has no row, nor have some candidates.
    anchors, candidates = rows(harness.B, 7, [2]), rows(harness.M, 8, [0, 5, 6])
    given = similarities(tf.constant(anchors), tf.constant(candidates))
    loss, (to_positive, to_logits) = found(text, example, given, _teacher())
    expected = cosines(anchors, candidates)
    for b, row in enumerate(example.rows()):
        used = example.queued >= 0
        if len(example.labels):
            used &= example.queued != example.index[b]
        made = FORMULAS[text](row)
        made = made._replace(targets=mixed(made.targets, expected[b, used]))

        def value(x, made=made):
            return treated_loss(x[0], x[1:], made)

        x = np.array([row.positive, *row.logits])
        np.testing.assert_allclose(loss[b], value(x), rtol=1e-5)
        slopes = reference.slopes(value, x)
        np.testing.assert_allclose(to_positive[b], slopes[0], atol=2e-5)
        np.testing.assert_allclose(to_logits.numpy()[b, used], slopes[1:], atol=2e-5)
        assert not np.any(to_logits.numpy()[b, ~used])


def _teacher(part=PART, schedule="constant", temperature=TEMPERATURE) -> Teacher:
    return Teacher(WIDTH, part, schedule, temperature)


@pytest.mark.parametrize(
    ("text", "part", "same"), [("none", 0.5, "sce"), ("decoupled", 1.0, "ressl"), ("sce", 0, "sce")]
)
def test_with_the_keys_similarities_it_is_the_published_method(text, part, same):
    example = case(4)
    temperature = {"sce": 0.07, "ressl": 0.04}[same]
    teacher = _teacher(part, temperature=temperature)
    ours = found(text, example, tf.constant(example.teacher), teacher)
    theirs = found(same, example, None, None)
    for x, y in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=3e-6)


def test_the_weight_falls_to_nothing_at_the_last_epoch():
    def at(schedule, epoch, epochs=11):
        batch = Batch(*[None] * 7, epochs, RuleInputs({}, epoch=epoch))
        return float(weight(_teacher(0.8, schedule), batch))

    assert [at("constant", e) for e in (0, 5, 10)] == pytest.approx([0.8] * 3)
    assert [at("linear", e) for e in (0, 5, 10)] == pytest.approx([0.8, 0.4, 0.0])
    # (1 - cos(pi / 4)) / 2 = 0.1464 of the way down from the top after a quarter.
    cosine = [at("cosine", e, 9) for e in (0, 2, 4, 8)]
    assert cosine == pytest.approx([0.8, 0.8 * (1 - 0.146447), 0.4, 0.0], abs=1e-5)
    assert at("linear", 0, epochs=1) == pytest.approx(0.8)
    assert [at("linear", e, epochs=2) for e in (0, 1)] == pytest.approx([0.8, 0.0])


def taught(data, table):
    return data | {"teacher": tf.gather(tf.cast(table, DTYPE), data["index"])}


def test_the_queue_keeps_the_rows_of_its_examples():
    table = rows(steps.N)
    model = steps.moco(num_levels=0, mode="none", teacher=_teacher())
    for step in range(3):
        index = np.random.default_rng(step).permutation(steps.N)[: steps.B]
        model.train_step(taught(steps.batch(step, index), table))
    queued, kept = model.queue_index.numpy(), model.teacher_queue.numpy().astype(np.float32)
    assert np.all(queued != EMPTY)
    np.testing.assert_array_equal(kept, tf.cast(tf.cast(table, DTYPE), tf.float32).numpy()[queued])


@pytest.mark.parametrize("framework", ["moco", "simclr"])
def test_a_step_s_loss_equals_the_reference(framework):
    table = tf.cast(tf.cast(rows(steps.N, absent=[7, 19]), DTYPE), tf.float32).numpy()
    data, tau = taught(steps.batch(), table), steps.TAU
    index = data["index"].numpy()
    if framework == "moco":
        model = steps.moco(num_levels=0, mode="none", teacher=_teacher())
        queue, queued = steps.fill(model)
        model.teacher_queue.assign(np.where(queued[:, None] >= 0, table[queued], 0.0))
        anchors = model.network.embed(data["images"][:, 0]).numpy()
        keys = model.key_network.embed(data["images"][:, 1]).numpy()
        used = [np.flatnonzero(queued >= 0)] * steps.B
        others, examples = queue, queued
    else:
        model = steps.simclr(num_levels=0, mode="none", teacher=_teacher())
        first, second = (model.network.embed(data["images"][:, v]).numpy() for v in (0, 1))
        anchors, keys = np.concatenate([first, second]), np.concatenate([second, first])
        index = np.concatenate([index, index])
        used = [np.flatnonzero(index != i) for i in index]
        others, examples = anchors, index
    expected = []
    for b, i in enumerate(index):
        given = cosines(table[[i]], table[examples[used[b]]])[0]
        logits = others[used[b]].astype(float) @ anchors[b] / tau
        targets = mixed(np.eye(1 + len(logits))[0], given)
        made = Treated(np.ones(len(logits)), targets)
        expected.append(treated_loss(float(anchors[b] @ keys[b]) / tau, logits, made))
    np.testing.assert_allclose(model.train_step(data)["loss"], np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("make", [steps.moco, steps.simclr])
def test_the_step_compiles_under_xla_and_gives_the_same(make):
    table, found = rows(steps.N), []
    for compiled in (False, True):
        keras.utils.set_random_seed(0)
        model = make(num_levels=0, mode="none", teacher=_teacher())
        if make is steps.moco:
            _, queued = steps.fill(model)
            model.teacher_queue.assign(np.where(queued[:, None] >= 0, table[queued], 0.0))
        step = tf.function(model.train_step, jit_compile=compiled)
        found.append(float(step(taught(steps.batch(), table))["loss"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
