"""No detection at all: what the method is compared with."""

from ifnd_tf.detection.detectors import Detector


class Plain(Detector):
    """`--detector=none`: no label is ever accepted, and no mask is computed."""
