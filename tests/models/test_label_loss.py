"""The loss from labels against the slow reference: values, gradients, and what they must not do."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.distribute.replicas import traced_for_accelerator
from ifnd_tf.models.info_nce import row_counts
from ifnd_tf.models.loss import LossSettings, false_negatives, label_info_nce, masked_info_nce
from ifnd_tf.models.treatments import rules
from tests import reference

B, M, L, N = 6, 40, 3, 30
ATTRACT = rules("attract")


def mode(settings):
    return "attract" if settings.rules == ATTRACT else "eliminate"


def name(settings):
    return f"{mode(settings)}-{settings.rescale_negatives}-{settings.level_combination}"


# eliminate, attract; mean, union; rescaled or not: attraction never is.
SETTINGS = [
    LossSettings(1.0, rules(mode), rescale, levels)
    for mode, rescale, levels in itertools.product(
        ("eliminate", "attract"), (False, True), ("mean", "union")
    )
    if not (mode == "attract" and rescale)
]


def case(seed=0, share=0.7, negatives=M, levels=L):
    """Positives [B], logits [B, M], valid [M], both indices and both labels; some are invalid."""
    random = np.random.default_rng(seed)
    index = random.permutation(N)[:B].astype(np.int32)
    queued = random.integers(-1, N, negatives).astype(np.int32)
    queued[7], queued[8] = index[0], -1  # an anchor's own older key, and an empty slot
    labels = np.where(random.random((levels, N)) < share, random.integers(0, 3, (levels, N)), -1)
    labels = np.concatenate([labels, np.full((levels, 1), -1)], axis=1).astype(np.int32)
    positive, logits = random.normal(size=B) * 5, random.normal(size=(B, negatives)) * 5
    return (
        positive.astype(np.float32),
        logits.astype(np.float32),
        queued >= 0,
        (index, queued),
        (labels[:, index], labels[:, queued]),
    )


def expected(settings, positive, logits, valid, indices, labels):
    """Loss [B], masked share, and gradients [B] and [B, M] by differences, in float64."""
    (index, queued), (own, theirs) = indices, labels
    losses, to_positive, to_logits = np.zeros(B), np.zeros(B), np.zeros(logits.shape)
    masked = count = 0
    for b in range(B):
        used = [j for j in range(len(queued)) if valid[j] and index[b] != queued[j]]
        same = [
            [reference.false_negative(own[level, b], theirs[level, j]) for j in used]
            for level in range(len(own))
        ]
        if settings.level_combination == "union":
            same = [np.any(same, axis=0)]
        masked, count = masked + np.sum(same) / len(same), count + len(used)

        def loss(x, same=same):
            options = (1.0, mode(settings), settings.rescale_negatives)
            return np.mean([reference.anchor_loss(x[0], x[1:], s, *options) for s in same])

        x = np.array([positive[b], *logits[b, used]], np.float64)
        slopes = reference.slopes(loss, x)
        losses[b], to_positive[b], to_logits[b, used] = loss(x), slopes[0], slopes[1:]
    return losses, masked / count, to_positive, to_logits


def found(settings, positive, logits, *rest, how=label_info_nce, upstream=1.0):
    """What `expected` gives."""
    positive, logits = tf.constant(positive), tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch([positive, logits])
        loss = how(positive, logits, *rest, settings)
        total = tf.reduce_sum(upstream * loss.per_anchor)
    return tuple(x.numpy() for x in (*loss[:2], *tape.gradient(total, [positive, logits])))


def assert_close(ours, truth):
    np.testing.assert_allclose(ours[0], truth[0], rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ours[1], truth[1], rtol=1e-6)
    for gradient, wanted in zip(ours[2:], truth[2:], strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=5e-6)


# 40 negatives are added in 8 lanes, 41 one by one.
@pytest.mark.parametrize("negatives", [M, M + 1])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_equals_the_reference(settings, negatives):
    arguments = case(negatives=negatives)
    ours, truth = found(settings, *arguments), expected(settings, *arguments)
    assert 0.1 < truth[1] < 0.9
    assert_close(ours, truth)


@pytest.mark.parametrize("settings", SETTINGS[::2], ids=name)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_label_and_every_label(settings, share):
    arguments = case(seed=3, share=share)
    ours = found(settings, *arguments)
    assert_close(ours, expected(settings, *arguments))
    assert (float(ours[1]) > 0) == (share > 0)


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_eager_graph_accelerator_and_masks_agree(settings):
    arguments = case(seed=1)
    truth = expected(settings, *arguments)

    def eager(*all_of_it):
        return label_info_nce.python_function(*all_of_it)

    def masks(positive, logits, valid, indices, labels, _):
        (index, queued), same = indices, false_negatives(*labels)
        if settings.level_combination == "union":
            same = tf.reduce_any(same, axis=0, keepdims=True)
        return masked_info_nce(
            positive, logits, valid=valid & (index[:, None] != queued[None, :]),
            false_negative=same, mode=mode(settings), rescale=settings.rescale_negatives,
        )  # fmt: skip

    for how in (eager, tf.function(eager, autograph=False), masks):
        assert_close(found(settings, *arguments, how=how), truth)
    with traced_for_accelerator():
        assert_close(found(settings, *arguments, how=tf.function(eager, autograph=False)), truth)


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_gradients_are_weighted_by_what_comes_from_above(settings):
    arguments, upstream = case(seed=2), np.arange(1.0, B + 1, dtype=np.float32)
    _, _, *plain = found(settings, *arguments)
    _, _, *weighted = found(settings, *arguments, upstream=upstream)
    np.testing.assert_allclose(weighted[0], upstream * plain[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted[1], upstream[:, None] * plain[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rescale", [False, True])
def test_a_negative_masked_at_every_level_has_no_gradient_at_all(rescale):
    positive, logits, valid, indices, (own, theirs) = case()
    own = np.where(own < 0, 1, own)
    theirs[:, 3] = own[:, 2]
    settings = LossSettings(1.0, rescale_negatives=rescale)
    gradient = found(settings, positive, logits, valid, indices, (own, theirs))[3]
    assert gradient[2, 3] == 0.0 and np.any(gradient[2] != 0)


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_own_older_keys_and_empty_slots_do_not_count(settings):
    positive, logits, valid, indices, (own, theirs) = case()
    own[:, 0], theirs[:, 7], theirs[:, 8] = 1, 1, 1
    before = found(settings, positive, logits, valid, indices, (own, theirs))
    assert before[3][0, 7] == 0.0 and not np.any(before[3][:, 8])
    logits[0, 7], logits[:, 8] = 100.0, np.nan
    after = found(settings, positive, logits, valid, indices, (own, theirs))
    np.testing.assert_array_equal(before[0], after[0])


def test_without_levels_it_is_plain_info_nce_with_own_older_keys():
    positive, logits, valid, *rest = case(levels=0)
    loss, share, to_positive, to_logits = found(LossSettings(), positive, logits, valid, *rest)
    terms = np.exp(np.concatenate([positive[:, None], logits[:, valid]], axis=1, dtype=np.float64))
    softmax = terms / terms.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(softmax[:, 0]), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(to_positive, softmax[:, 0] - 1.0, atol=5e-6)
    np.testing.assert_allclose(to_logits[:, valid], softmax[:, 1:], atol=5e-6)
    assert share == 0.0 and not np.any(to_logits[:, ~valid]) and to_logits[0, 7] > 0


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_an_empty_queue_leaves_a_loss_of_zero(settings):
    positive, logits, valid, *rest = case()
    loss, share, to_positive, to_logits = found(
        settings, positive, logits, np.zeros_like(valid), *rest
    )
    np.testing.assert_allclose(loss, np.zeros(B), atol=1e-6)
    np.testing.assert_allclose(to_positive, np.zeros(B), atol=1e-6)
    assert share == 0.0 and not np.any(to_logits)


@pytest.mark.parametrize(
    ("levels", "batch", "valid", "settings"),
    [
        (2, 64, 1, LossSettings()),
        (1, 40000, 2, LossSettings()),  # the halves of 32 bits would overflow
        (2, 64, 1, LossSettings(rules=ATTRACT)),
    ],
)
def test_the_masked_share_of_a_batch_of_any_size(levels, batch, valid, settings):
    labels = np.zeros([levels, batch], np.int32)
    labels[0, ::2] = -1
    loss = label_info_nce(
        tf.zeros([batch]), tf.zeros([batch, valid + 1]), tf.range(valid + 1) < valid,
        (tf.range(batch), -2 - tf.range(valid + 1)),
        (labels, tf.zeros([levels, valid + 1], tf.int32)), settings,
    )  # fmt: skip
    np.testing.assert_allclose(loss.masked_share, 1.0 - 0.5 / levels, rtol=1e-6)


def test_counts_that_would_overflow_half_an_integer():
    mask = tf.ones([2, 131074], tf.bool)  # in two lanes
    counts = row_counts([lambda: mask, lambda: ~mask, lambda: mask])
    np.testing.assert_array_equal(counts, [[131074] * 2, [0] * 2, [131074] * 2])
