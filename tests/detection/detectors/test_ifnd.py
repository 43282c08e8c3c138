"""The method's detector on four obvious classes."""

import numpy as np

from ifnd_tf.detection import pseudo_labels
from ifnd_tf.detection.detectors.ifnd import Incremental
from tests import corners


def test_accepts_the_surest_and_starts_where_it_ended(strategy):
    detector = Incremental(corners.parts(strategy, 2, 4))
    half = detector.detect(0.5, corners.no_phase)
    n = corners.N
    assert half.labels.shape == half.confidence.shape == (2, n)
    np.testing.assert_array_equal(np.sum(half.labels >= 0, axis=1), [n // 2, n // 2])
    for labels, confidence in zip(half.labels, half.confidence, strict=True):
        assert confidence[labels >= 0].min() >= confidence[labels < 0].max()
    everything = detector.detect(1.0, corners.no_phase)
    assert np.all(everything.labels >= 0)
    # A warm start keeps the clusters' names.
    kept = half.labels >= 0
    np.testing.assert_array_equal(everything.labels[kept], half.labels[kept])
    # Four clusters for four corners: the truth, up to names.
    scores = pseudo_labels.detection_statistics(everything.labels[1:], corners.TRUE_LABELS)
    assert scores["precision"] == scores["recall"] == 1.0
    assert everything.statistics["clusters"] == [2, 4]
    assert everything.statistics["empty_clusters"] == 0
    np.testing.assert_array_equal(everything.sample.examples, np.arange(n))
