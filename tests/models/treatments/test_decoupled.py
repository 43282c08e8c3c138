import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.treatments import rules
from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, case


def decoupled(row):
    return Treated(np.ones(len(row.logits)), key_in_sum=False)


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("decoupled", decoupled, case(), how)


def test_a_key_much_nearer_than_every_negative_is_no_underflow():
    """Cosines 0.98 and at most 0.05, divided by 0.01."""
    positive, logits = tf.constant([98.0]), tf.constant([[5.0, 4.0]])
    none = tf.zeros([0, 1], tf.int32), tf.zeros([0, 2], tf.int32)
    with tf.GradientTape() as tape:
        tape.watch([positive, logits])
        found = label_info_nce(
            positive, logits, tf.constant([True, True]),
            (tf.constant([0]), tf.constant([1, 2])), none, LossSettings(0.01, rules("decoupled")),
        )  # fmt: skip
    np.testing.assert_allclose(found.per_anchor, [np.log(np.exp(5) + np.exp(4)) - 98], rtol=1e-6)
    to_positive, to_logits = tape.gradient(found.per_anchor, [positive, logits])
    np.testing.assert_allclose(to_positive, [-1.0])
    np.testing.assert_allclose(to_logits, [[0.731059, 0.268941]], rtol=1e-5)
