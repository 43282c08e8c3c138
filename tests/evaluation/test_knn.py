"""Weighted kNN against scikit-learn and against arithmetic by hand."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.knn import weighted_knn


def _unit(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _blobs(count, seed, classes=8, spread=2.0):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, 16))
    labels = random.integers(0, classes, count).astype(np.int32)
    features = centres[labels] + spread * random.normal(size=(count, 16))
    return Embeddings(features.astype(np.float32), labels)


def _scikit_learn(train, test, neighbors, temperature):
    """The same classifier from scikit-learn: brute force on unit vectors."""

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def votes(distance):
        return np.exp((1 - distance**2 / 2) / temperature)

    model = KNeighborsClassifier(neighbors, weights=votes, algorithm="brute")
    model.fit(unit(train.features), train.labels)
    scores = model.predict_proba(unit(test.features))
    own = scores[np.arange(len(test.labels)), test.labels]
    rank = np.sum(scores > own[:, None], axis=1)
    return [np.mean((own > 0) & (rank < k)) for k in (1, 5)]


# 64 takes the plain path; 500 rows of chunk 4096 with 7 neighbours the grouped one.
@pytest.mark.parametrize("chunk", [64, 4096])
@pytest.mark.parametrize("neighbors", [7, 40])
def test_equals_scikit_learn(chunk, neighbors):
    train, test = _blobs(503, 1), _blobs(100, 2)
    counted = []
    found = dict(
        weighted_knn(
            train, test, neighbors=neighbors, temperature=0.1, chunk=chunk,
            count=lambda *done: counted.append(done),
        )
    )  # fmt: skip
    assert counted == [(100, 100)]
    top1, top5 = _scikit_learn(train, test, neighbors, 0.1)
    assert found == {"knn_top1": pytest.approx(top1), "knn_top5": pytest.approx(top5)}
    assert 0.3 < top1 < 0.95  # hard enough to tell classifiers apart


def test_weights_decide_between_one_near_and_two_far_neighbours():
    # cos 0.1 = 0.9950 against twice cos 1.0 = 0.5403. At tau = 1: e^.995 = 2.70 < 2 e^.540 = 3.43,
    # so the two win; at tau = 0.1: e^9.95 = 20952 > 2 e^5.40 = 444, so the one wins.
    train = Embeddings(_unit(np.array([0.1, 1.0, -1.0])), np.array([0, 1, 1], np.int32))
    test = Embeddings(_unit(np.array([0.0])), np.array([0], np.int32))
    assert dict(weighted_knn(train, test, temperature=1.0)) == {"knn_top1": 0.0}
    assert dict(weighted_knn(train, test, temperature=0.1)) == {"knn_top1": 1.0}


def test_equal_votes_are_right_by_chance():
    labels = np.repeat(np.arange(8), 20).astype(np.int32)
    same = Embeddings(np.ones([160, 3], np.float32), labels)
    # Every class has 20 votes of 1, so that every image counts as of the first, as by argmax.
    assert dict(weighted_knn(same, same, neighbors=160)) == {"knn_top1": 1 / 8, "knn_top5": 5 / 8}


def test_a_class_without_a_vote_is_never_right():
    train = Embeddings(_unit(np.arange(6) * 0.1), np.arange(6, dtype=np.int32))
    test = Embeddings(_unit(np.array([0.0])), np.array([5], np.int32))
    # 2 neighbours vote, so 4 of 6 classes have no votes, and class 5 is one of them.
    assert dict(weighted_knn(train, test, neighbors=2)) == {"knn_top1": 0.0, "knn_top5": 0.0}
    assert dict(weighted_knn(train, test, neighbors=6))["knn_top5"] == 0.0  # the sixth of six


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_finite(temperature):
    train = _blobs(200, 1, spread=0.1)
    found = dict(weighted_knn(train, _blobs(50, 2, spread=0.1), temperature=temperature))
    # 200 neighbours clipped to all of N: at 1e3 all votes weigh the same and the largest class
    # wins; at 1e-3 the nearest alone decides.
    if temperature < 1:
        assert found["knn_top1"] == 1.0
    else:
        largest = np.bincount(train.labels).argmax()
        assert found["knn_top1"] < 0.5
        assert np.isclose(found["knn_top1"], np.mean(_blobs(50, 2).labels == largest), atol=0.2)
