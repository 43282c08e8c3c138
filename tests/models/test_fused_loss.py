"""The fused loss against the plain one, values and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.fused_loss import eliminate
from ifnd_tf.models.loss import false_negatives, masked_info_nce

B, M, L, N = 6, 40, 3, 30


def case(seed, share=0.7, M=M):
    random = np.random.default_rng(seed)
    index = random.permutation(N)[:B].astype(np.int32)
    queued = random.integers(-1, N, M).astype(np.int32)
    labels = np.where(random.random((L, N)) < share, random.integers(0, 3, (L, N)), -1)
    labels = np.concatenate([labels, np.full((L, 1), -1)], axis=1).astype(np.int32)
    positive, logits = random.normal(size=B) * 5, random.normal(size=(B, M)) * 5
    return (
        tf.constant(positive, tf.float32),
        tf.constant(logits, tf.float32),
        queued >= 0,
        *map(tf.constant, (index, queued, labels[:, index], labels[:, queued])),
    )


def plain(positive, logits, valid, index, queued, own, theirs):
    return masked_info_nce(
        positive,
        logits,
        valid=tf.logical_and(valid, index[:, None] != queued[None, :]),
        false_negative=false_negatives(own, theirs),
    )


def with_gradients(loss, positive, logits, *rest):
    weights = tf.range(1.0, B + 1)
    with tf.GradientTape() as tape:
        tape.watch([positive, logits])
        found = loss(positive, logits, *rest)
        total = tf.reduce_sum(weights * found.per_anchor)
    return found, *tape.gradient(total, [positive, logits])


# 40 negatives are added in 8 lanes, 41 one by one.
@pytest.mark.parametrize("negatives", [M, M + 1])
@pytest.mark.parametrize(("seed", "share"), [(0, 0.7), (1, 0.7), (2, 0.0), (3, 1.0)])
def test_it_equals_the_plain_loss(seed, share, negatives):
    arguments = case(seed, share, negatives)
    expected, found = (with_gradients(loss, *arguments) for loss in (plain, eliminate))
    np.testing.assert_allclose(found[0].per_anchor, expected[0].per_anchor, rtol=1e-5)
    np.testing.assert_allclose(found[0].masked_share, expected[0].masked_share, rtol=1e-6)
    assert (float(found[0].masked_share) > 0) == (share > 0)
    for gradient, wanted in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_negative_masked_at_every_level_has_no_gradient_at_all():
    positive, logits, valid, index, queued, own, theirs = case(0)
    own = tf.where(own < 0, 1, own)
    theirs = tf.tensor_scatter_nd_update(theirs, [[0, 3], [1, 3], [2, 3]], own[:, 2])
    _, _, gradient = with_gradients(eliminate, positive, logits, valid, index, queued, own, theirs)
    assert gradient[2, 3] == 0.0 and np.any(gradient[2] != 0)


def test_no_valid_negative_leaves_a_loss_of_zero():
    positive, logits, _, *rest = case(0)
    found, to_positive, to_logits = with_gradients(
        eliminate, positive, logits, tf.zeros([M], tf.bool), *rest
    )
    np.testing.assert_allclose(found.per_anchor, np.zeros(B), atol=1e-6)
    np.testing.assert_allclose(to_positive, np.zeros(B), atol=1e-5)
    assert not np.any(to_logits)
