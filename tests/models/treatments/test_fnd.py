import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.rule import RuleInputs
from ifnd_tf.models.treatments import rules
from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case


def fnd(alpha, rescale=True):
    def formula(row):
        # 1 - 0.8 < 0.2: the quantile may be a last bit below the cosine that it is.
        kept = row.teacher <= np.quantile(row.teacher, 1 - alpha) + 1e-7
        scale = len(kept) / kept.sum() if rescale else 1.0
        return Treated(kept.astype(float), scale=scale)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("fnd:alpha=0.3", fnd(0.3), case(), how)
    assert_equals("fnd:alpha=0.5:rescale=false", fnd(0.5, rescale=False), case(1), how)
    assert_equals("fnd", fnd(0.01), case(1), how)  # of 21 the nearest one


@settings(max_examples=25)
@given(seed=st.integers(0, 99), percent=st.integers(0, 99), empty=st.integers(0, 20))
def test_as_many_as_the_quantile_says(seed, percent, empty):
    some = case(seed, empty=empty)
    expected = [np.mean(fnd(percent / 100)(row).weights == 0) for row in some.rows()]
    share = harness.found(f"fnd:alpha={percent / 100}", some)[0].masked_share
    np.testing.assert_allclose(share, np.mean(expected), rtol=1e-5)


def test_no_share_and_too_early_are_info_nce():
    assert_same("fnd:alpha=0", "none", case())
    assert_same("fnd:alpha=0.3:start=0.6", "none", case(epoch=5, epochs=10))


@pytest.mark.parametrize("rescale", [True, False])
def test_a_pair_is_masked_by_label_or_by_similarity(rescale):
    def formula(row):
        kept = (fnd(0.3)(row).weights > 0) & ~row.same[0]
        return Treated(kept.astype(float), scale=len(kept) / kept.sum() if rescale else 1.0)

    text = f"eliminate,fnd:alpha=0.3:rescale={rescale}"
    assert_equals(text, formula, case(4, levels=1))


def test_a_rule_is_measured_by_the_pairs_that_it_finds_itself():
    some = case(levels=1)
    every = np.append(some.labels, np.int32([[-1]]), axis=1)  # index -1: an empty slot
    labels = [every[:, at] for at in (some.index, some.queued)]
    truth = [each[0] for each in labels]

    def sums(text):
        loss = label_info_nce(
            *map(tf.constant, (some.positive, some.logits, some.queued >= 0)),
            (tf.constant(some.index), tf.constant(some.queued)), tuple(map(tf.constant, labels)),
            LossSettings(rules=rules(text)),
            RuleInputs({}, tf.constant(some.teacher), epoch=tf.constant(9)), tuple(truth),
        )  # fmt: skip
        return loss.detected.numpy()

    # The labels are the truth: with eliminate's pairs the precision would be 1.
    alone = sums("fnd:alpha=0.3:start=0")
    assert 0 < alone[1] < alone[0]
    np.testing.assert_array_equal(sums("eliminate,fnd:alpha=0.3:start=0"), alone)
