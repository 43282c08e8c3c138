"""The control: ifnd's labels, on the wrong examples."""

import numpy as np
import tensorflow as tf

from ifnd_tf.detection import pseudo_labels
from ifnd_tf.detection.detectors.ifnd import Incremental
from ifnd_tf.detection.detectors.random import Permuted
from tests import corners


def test_keeps_sizes_and_loses_the_meaning():
    parts = corners.parts(tf.distribute.get_strategy(), 4, seed=3)
    true = Incremental(parts).detect(1.0, corners.no_phase)
    dealt = Permuted(parts).detect(1.0, corners.no_phase)
    np.testing.assert_array_equal(np.bincount(dealt.labels[0]), np.bincount(true.labels[0]))
    scores = pseudo_labels.detection_statistics(dealt.labels, corners.TRUE_LABELS)
    assert scores["precision"] < 0.5
