"""Labels of a chosen precision and recall."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifnd_tf.detection.detectors import NoisyOracleDetector
from ifnd_tf.detection.metrics import detection_statistics
from ifnd_tf.detection.noisy_labels import noisy_labels
from ifnd_tf.errors import UserError
from tests import reference

TRUTH = np.repeat(np.arange(10), 40)


@pytest.mark.parametrize(
    ("precision", "recall"),
    [(1.0, 1.0), (1.0, 0.05), (0.5, 0.45), (0.5, 0.2), (0.2, 0.15), (0.45, 0.85), (0.3, 0.6)],
)
def test_pairs_are_as_precise_and_as_complete_as_asked(precision, recall):
    labels = noisy_labels(TRUTH, precision, recall, seed=1)
    found = reference.pair_scores(reference.same_pairs(labels), reference.same_pairs(TRUTH))
    np.testing.assert_allclose(found[:2], (precision, recall), atol=0.04)


@settings(max_examples=15)
@given(precision=st.floats(0.15, 1.0), share=st.floats(0.3, 0.8), seed=st.integers(0, 9))
def test_any_recall_below_the_precision_can_be_had(precision, share, seed):
    truth = np.repeat(np.arange(8), 100)
    labels = noisy_labels(truth, precision, share * precision, seed)
    found = NoisyOracleDetector(truth.astype(np.int32), precision, share * precision, seed)
    np.testing.assert_array_equal(found.detect(1.0, None).labels[0], labels)
    scores = detection_statistics(labels, truth)
    np.testing.assert_allclose(
        (scores["precision"], scores["recall"]), (precision, share * precision), atol=0.04
    )


def test_unknown_classes_stay_without_a_label():
    truth = np.where(np.arange(400) % 3 == 0, -1, TRUTH)
    assert np.all(noisy_labels(truth, 0.8, 0.5)[::3] == -1)


@pytest.mark.parametrize("precision", [0.5, 0.9])
def test_a_recall_that_cannot_be_had_is_answered_with_one_that_can(precision):
    with pytest.raises(UserError, match="--oracle_recall: expected at most 0.91 at"):
        noisy_labels(TRUTH, precision, 1.0)
    labels = noisy_labels(TRUTH, precision, 0.9)
    assert detection_statistics(labels, TRUTH)["recall"] == pytest.approx(0.9, abs=0.02)


def test_a_precision_that_small_classes_cannot_have_is_refused():
    with pytest.raises(UserError, match=r"--oracle_precision: .*where the nearest is 0\.\d+"):
        noisy_labels(np.repeat(np.arange(242), 15), 0.5, 0.05)
    with pytest.raises(UserError, match="expected labelled images"):
        noisy_labels(np.full(9, -1), 0.5, 0.5)


def test_labels_worse_than_random_ones_are_refused():
    with pytest.raises(UserError, match="--oracle_recall: expected at most 0.00 at"):
        noisy_labels(TRUTH, 0.05, 0.5)
