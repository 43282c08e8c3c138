"""Detectors by name, and the two that need no embeddings."""

import numpy as np
import pytest

from ifnd_tf.detection import detectors
from ifnd_tf.detection.detectors import Parts
from ifnd_tf.errors import UserError
from tests import corners


def parts(truth):
    def no_clusters():
        raise AssertionError("embeddings are not for this detector")

    return Parts(np.array(truth, np.int32), no_clusters)


def test_oracle_gives_the_truth_at_once():
    oracle = detectors.named("oracle")(parts([0, 1, -1, 1]))
    found = oracle.detect(1.0, corners.no_phase)
    np.testing.assert_array_equal(found.labels, [[0, 1, -1, 1]])
    np.testing.assert_array_equal(found.confidence, [[1, 1, 0, 1]])
    assert not oracle.incremental and oracle.num_levels == 1
    with pytest.raises(UserError, match="data set with labels"):
        detectors.named("oracle")(parts([-1, -1]))


def test_none_has_nothing_to_detect():
    assert detectors.named("none")(parts([0])).num_levels == 0


def test_an_unknown_name_is_answered_with_those_there_are():
    message = "one of ifnd, none, oracle, random. Received: 'orcale'. Did you mean oracle"
    with pytest.raises(UserError, match=message):
        detectors.named("orcale")


@pytest.mark.parametrize("name", detectors.names())
def test_every_choice_is_a_detector(name):
    assert issubclass(detectors.named(name), detectors.Detector)


def test_a_class_in_a_file_of_its_own_is_all_that_a_detector_takes(tmp_path, monkeypatch):
    assert detectors.names() == ["ifnd", "none", "oracle", "random"]
    (tmp_path / "halves.py").write_text(
        "from ifnd_tf.detection.detectors import Detector\n"
        "from ifnd_tf.detection.detectors.none import Plain\n\n"
        "class Halves(Detector):\n"
        "    num_levels = 1\n"
    )
    monkeypatch.setattr(detectors, "__path__", [*detectors.__path__, str(tmp_path)])
    assert detectors.named("halves").num_levels == 1
