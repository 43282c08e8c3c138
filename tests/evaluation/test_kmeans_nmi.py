"""Agreement of k-means with classes, on data whose answer is known."""

import math

import numpy as np
import pytest

from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.kmeans_nmi import agreement, clustering


def test_agreement_by_hand():
    # Classes (0 0 0 1), clusters (a a b b): purity (2 + 1) / 4, since b holds one of each.
    found = dict(agreement(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])))
    assert found["cluster_purity"] == pytest.approx(3 / 4)
    # I = H(class) - H(class | cluster) = H(1/4) - ln(2)/2; NMI divides by the mean entropy.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    information = entropy - math.log(2) / 2
    assert found["cluster_nmi"] == pytest.approx(information / ((entropy + math.log(2)) / 2))


@pytest.mark.slow
def test_separate_classes_are_found_and_noise_is_not():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 40).astype(np.int32)
    noise = random.normal(size=(200, 8)).astype(np.float32)
    separate = np.eye(5, 8, dtype=np.float32)[labels] + 0.05 * noise
    assert dict(clustering(Embeddings(separate, labels))) == {
        "cluster_nmi": pytest.approx(1.0),
        "cluster_ami": pytest.approx(1.0),
        "cluster_purity": pytest.approx(1.0),
    }
    by_chance = dict(clustering(Embeddings(noise, labels)))
    assert abs(by_chance["cluster_ami"]) < 0.05  # adjusted for chance: about 0
    assert by_chance["cluster_nmi"] > by_chance["cluster_ami"]
