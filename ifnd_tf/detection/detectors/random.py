"""Detection that must not help: the control."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ifnd_tf.detection.detectors import Detection, Parts
from ifnd_tf.detection.detectors.ifnd import Incremental


class Permuted(Incremental):
    """`--detector=random`: ifnd's labels dealt to the wrong examples.

    The same number of negatives is masked, in clusters of the same sizes.
    """

    def __init__(self, parts: Parts):
        super().__init__(parts)
        self._seed = parts.seed

    def detect(self, rate: float, phase: Callable[[str], Any]) -> Detection:
        found = super().detect(rate, phase)
        order = np.random.default_rng(self._seed).permutation(found.labels.shape[1])
        return found._replace(labels=found.labels[:, order], confidence=found.confidence[:, order])
