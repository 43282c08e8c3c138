"""The masked losses against the slow reference, closed-form gradients, and their properties."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.loss import false_negatives, masked_info_nce
from tests import reference

B, M, L, TAU = 5, 12, 3, 0.2


@pytest.fixture
def case():
    """Logits [B], [B, M] divided by tau, and a mask [L, B, M] with about a third set."""
    rng = np.random.default_rng(0)
    return {
        "positive": (rng.uniform(-1, 1, B) / TAU).astype(np.float32),
        "negatives": (rng.uniform(-1, 1, (B, M)) / TAU).astype(np.float32),
        "mask": rng.random((L, B, M)) < 0.3,
    }


def compiled(how, function):
    """`function` eager, as a graph, or compiled by XLA."""
    return function if how == "eager" else tf.function(function, jit_compile=how == "xla")


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize(
    ("mode", "rescale"), [("eliminate", False), ("eliminate", True), ("attract", False)]
)
def test_equals_the_reference(case, how, mode, rescale):
    expected = [
        np.mean(
            [
                reference.anchor_loss(
                    case["positive"][b] * TAU, case["negatives"][b] * TAU, case["mask"][level, b],
                    TAU, mode, rescale,
                )
                for level in range(L)
            ]
        )
        for b in range(B)
    ]  # fmt: skip
    loss = compiled(
        how,
        lambda p, n, f: masked_info_nce(p, n, false_negative=f, mode=mode, rescale=rescale),
    )(case["positive"], case["negatives"], case["mask"])
    np.testing.assert_allclose(loss.per_anchor, expected, rtol=2e-6)
    np.testing.assert_allclose(loss.masked_share, case["mask"].mean(), rtol=1e-6)


def test_a_hand_computed_value():
    # One positive of logit 0 and negatives of logits 0, ln 2 (masked), ln 3: -log(1 / (1+1+3)).
    loss = masked_info_nce(
        tf.constant([0.0]),
        tf.math.log([[1.0, 2.0, 3.0]]),
        false_negative=tf.constant([[[False, True, False]]]),
    )
    np.testing.assert_allclose(loss.per_anchor, [np.log(5.0)], rtol=1e-6)


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_without_labels_it_is_plain_info_nce(case, mode):
    plain = masked_info_nce(case["positive"], case["negatives"])
    none = masked_info_nce(
        case["positive"], case["negatives"], false_negative=np.zeros((L, B, M), bool), mode=mode
    )
    logits = np.concatenate([case["positive"][:, None], case["negatives"]], axis=1)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(np.zeros(B, np.int32), logits)
    np.testing.assert_allclose(plain.per_anchor, cross_entropy, rtol=1e-6)
    np.testing.assert_allclose(none.per_anchor, cross_entropy, rtol=1e-6)


def gradients(case, mask, mode, rescale=False):
    """d loss / d the positive's logit [B] and the negatives' [B, M]."""
    positive, negatives = tf.constant(case["positive"]), tf.constant(case["negatives"])
    with tf.GradientTape() as tape:
        tape.watch([positive, negatives])
        loss = masked_info_nce(
            positive, negatives, false_negative=mask, mode=mode, rescale=rescale
        ).per_anchor
    return [gradient.numpy() for gradient in tape.gradient(loss, [positive, negatives])]


def softmax_weights(case, scale=1.0):
    """e^x / sum of e^x [B, 1 + M], where a negative counts `scale` [B, M] times."""
    logits = np.concatenate([case["positive"][:, None], case["negatives"]], axis=1)
    terms = np.exp(logits.astype(np.float64))
    terms[:, 1:] *= scale
    return terms / terms.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rescale", [False, True])
def test_elimination_has_the_gradients_of_a_softmax_over_the_kept(case, rescale):
    # method.md: 0 for a false negative, p / tau for a kept one, the mean over levels. Rescaled,
    # each kept one counts M / kept times.
    expected = np.zeros([B, 1 + M])
    for mask in case["mask"]:
        kept = ~mask
        scale = kept * (M / kept.sum(axis=1, keepdims=True) if rescale else 1.0)
        expected += softmax_weights(case, scale) / L
    expected[:, 0] -= 1.0
    positive, negatives = gradients(case, case["mask"], "eliminate", rescale)
    np.testing.assert_allclose(positive, expected[:, 0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(negatives, expected[:, 1:], rtol=1e-5, atol=1e-7)
    # Not merely small: a masked key must not move at all.
    assert np.all(gradients(case, case["mask"][:1], "eliminate", rescale)[1][case["mask"][0]] == 0)


def test_attraction_has_the_gradients_of_a_softmax_less_one_over_P(case):
    # method.md: (p_f - 1 / |P|) / tau for a false negative, p / tau for the others, the mean over
    # levels; the positive is one of P.
    expected = softmax_weights(case)
    for mask in case["mask"]:
        share = 1.0 / (1.0 + mask.sum(axis=1, keepdims=True))
        expected -= np.concatenate([np.ones([B, 1]), mask], axis=1) * share / L
    positive, negatives = gradients(case, case["mask"], "attract")
    np.testing.assert_allclose(positive, expected[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(negatives, expected[:, 1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_the_order_of_negatives_does_not_matter(case, mode):
    order = np.random.default_rng(1).permutation(M)
    one = masked_info_nce(
        case["positive"], case["negatives"], false_negative=case["mask"], mode=mode
    )
    other = masked_info_nce(
        case["positive"], case["negatives"][:, order], false_negative=case["mask"][:, :, order],
        mode=mode,
    )  # fmt: skip
    np.testing.assert_allclose(one.per_anchor, other.per_anchor, rtol=1e-6)


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_invalid_entries_are_as_if_absent(case, mode):
    valid = np.arange(M) % 3 != 0
    some = masked_info_nce(
        case["positive"], case["negatives"], valid=valid, false_negative=case["mask"], mode=mode
    )
    absent = masked_info_nce(
        case["positive"], case["negatives"][:, valid],
        false_negative=case["mask"][:, :, valid], mode=mode,
    )  # fmt: skip
    np.testing.assert_allclose(some.per_anchor, absent.per_anchor, rtol=1e-6)
    np.testing.assert_allclose(some.masked_share, absent.masked_share, rtol=1e-6)


@pytest.mark.parametrize("mode", ["eliminate", "attract"])
def test_no_valid_negative_gives_zero_loss_and_finite_gradients(case, mode):
    # The first step of MoCo: the queue is empty.
    positive = tf.constant(case["positive"])
    with tf.GradientTape() as tape:
        tape.watch(positive)
        loss = masked_info_nce(
            positive, case["negatives"], valid=np.zeros(M, bool), false_negative=case["mask"],
            mode=mode,
        ).per_anchor  # fmt: skip
    np.testing.assert_allclose(loss, np.zeros(B), atol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, positive), np.zeros(B), atol=1e-6)


def test_large_logits_do_not_overflow():
    loss = masked_info_nce(tf.constant([100.0]), tf.constant([[200.0, -300.0]]))
    np.testing.assert_allclose(loss.per_anchor, [100.0], rtol=1e-6)


def test_false_negatives_need_two_equal_accepted_labels():
    anchors = tf.constant([[3, -1], [0, 1]])
    others = tf.constant([[3, -1, 4], [1, 0, -2]])
    expected = [
        [[True, False, False], [False, False, False]],
        [[False, True, False], [True, False, False]],
    ]
    np.testing.assert_array_equal(false_negatives(anchors, others), expected)


def test_unknown_mode_is_refused(case):
    with pytest.raises(ValueError, match="eliminate"):
        masked_info_nce(case["positive"], case["negatives"], mode="ignore")
