"""Precision, recall and F1 of the pairs that a treatment detects in a batch, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models import treatment_metrics
from ifnd_tf.models.info_nce import Treatment

# Anchors of the classes 0, 1 and unknown, beside four candidates; the last pair is invalid.
TRUTH = np.array([0, 1, -1]), np.array([0, 0, 1, -1])
VALID = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]], bool)
# Of the six pairs whose classes are known three agree: (0, 0), (0, 1) and (1, 2). Detected are
# (0, 0) and (0, 2), the first rightly, and pairs of unknown classes, which do not count.
FOUND = np.float32([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
SUMS = [2.0, 1.0, 3.0]

FIRST = FOUND * np.float32([[1], [0], [0]])
TREATMENTS = {
    "pairs of two rules": Treatment(
        masked=[lambda: FIRST > 0], attracted=[lambda: FOUND > 0, lambda: FOUND > 0]
    ),
    "pairs": Treatment(masked=[lambda: FOUND > 0]),
    "weights": Treatment(weights=[lambda x: x * (1 - FOUND)]),
    "target": Treatment(targets=lambda x: x * FOUND),
}


@pytest.mark.parametrize("kind", TREATMENTS)
def test_pairs_of_known_classes_alone_are_counted(kind):
    batch = SimpleNamespace(valid=lambda: VALID)
    sums = treatment_metrics.detected_sums(TREATMENTS[kind], batch, TRUTH, kind.split()[0])
    np.testing.assert_array_equal(sums, SUMS)


@pytest.mark.parametrize("kind", [*TREATMENTS, ""])
def test_an_epochs_measures_are_ratios_of_its_sums(kind):
    measures = treatment_metrics.means(kind.split()[0] if kind else "")
    for sums in (SUMS, [6.0, 3.0, 3.0]):
        treatment_metrics.update(measures, tf.constant(sums))
    expected = {"precision": 4 / 8, "recall": 4 / 6, "f1": 2 * 4 / (8 + 6)}
    if kind in ("target", ""):  # a soft target: precision alone; without detection: nothing
        expected = {"precision": 4 / 8} if kind else {}
    found = {name.removeprefix("treatment_"): float(m.result()) for name, m in measures.items()}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sums", "unknown"),
    [
        ([0.0, 0.0, 0.0], {"precision", "recall", "f1"}),
        ([0.0, 0.0, 3.0], {"precision"}),  # nothing is detected yet
        ([2.0, 0.0, 3.0], set()),
    ],
)
def test_a_ratio_to_nothing_is_unknown(sums, unknown):
    measures = treatment_metrics.means("pairs")
    treatment_metrics.update(measures, tf.constant(sums))
    assert treatment_metrics.unknown(measures) == {f"treatment_{name}" for name in unknown}
