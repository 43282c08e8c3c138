"""The two solvers agree with each other and with what is known."""

import numpy as np
import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.linear_probe import accuracies, lbfgs_scores, linear_probe, sgd_scores


def _blobs(count, seed, classes=6, spread=1.5, scale=1.0):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, 12))
    labels = random.integers(0, classes, count).astype(np.int32)
    features = scale * (3 + centres[labels] + spread * random.normal(size=(count, 12)))
    return Embeddings(features.astype(np.float32), labels)


def _bayes(test, classes=6, scale=1.0):
    """Accuracy of the nearest true centre: the best that any classifier can do."""
    centres = scale * (3 + np.random.default_rng(0).normal(size=(classes, 12)))
    distances = ((test.features[:, None] - centres) ** 2).sum(-1)
    return np.mean(distances.argmin(1) == test.labels)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_nears_the_best_possible_classifier_at_any_scale(solver, scale):
    train, test = _blobs(2000, 1, scale=scale), _blobs(1000, 2, scale=scale)
    found = dict(linear_probe(train, test, solver=solver, epochs=30))
    best = _bayes(test, scale=scale)
    assert 0.6 < best < 0.95
    assert found["linear_top1"] > best - 0.05
    assert found["linear_top5"] > found["linear_top1"]


def test_auto_takes_lbfgs_for_small_data():
    train, test = _blobs(100, 1), _blobs(50, 2)
    assert dict(linear_probe(train, test, solver="auto")) == dict(
        linear_probe(train, test, solver="lbfgs")
    )


def test_features_that_never_vary_are_ignored():
    train, test = _blobs(300, 1), _blobs(300, 2)
    constant = np.full([300, 1], 0.1, np.float32)
    wide = [Embeddings(np.hstack([part.features, constant]), part.labels) for part in (train, test)]
    assert dict(linear_probe(*wide)) == dict(linear_probe(train, test))


@pytest.mark.parametrize("scores", [lbfgs_scores, sgd_scores])
def test_classes_without_training_examples_score_minus_infinity(scores):
    train = _blobs(200, 1)
    kept = train.labels != 2
    found = scores(Embeddings(train.features[kept], train.labels[kept]), train.features)
    assert found.shape == (200, 6)
    assert np.isneginf(found[:, 2]).all()
    assert np.isfinite(np.delete(found, 2, axis=1)).all()


def test_features_that_are_all_the_same_are_right_by_chance():
    labels = np.repeat(np.arange(8), 20).astype(np.int32)
    same = Embeddings(np.ones([160, 3], np.float32), labels)
    # All scores are equal, so that every image counts as of the first class, as by argmax.
    assert dict(linear_probe(same, same)) == {"linear_top1": 1 / 8, "linear_top5": 5 / 8}


def test_two_classes():
    train, test = _blobs(300, 1, classes=2), _blobs(300, 2, classes=2)
    found = dict(linear_probe(train, test))
    assert set(found) == {"linear_top1"}
    assert found["linear_top1"] > _bayes(test, classes=2) - 0.05


def test_accuracies_by_hand():
    scores = np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1.0]])
    # Ranks 0, 4 and 5; a seventh class was never trained.
    found = dict(accuracies("x", scores, np.array([0, 4, 5])))
    assert found == {"x_top1": pytest.approx(1 / 3), "x_top5": pytest.approx(2 / 3)}
    assert dict(accuracies("x", scores, np.array([0, 6, 6])))["x_top5"] == pytest.approx(1 / 3)


def test_one_class_is_an_error():
    train = _blobs(10, 1)
    with pytest.raises(UserError, match="at least two classes"):
        dict(linear_probe(Embeddings(train.features, train.labels * 0), train))


def test_unknown_solver_is_an_error():
    with pytest.raises(UserError, match="Received: 'svd'"):
        dict(linear_probe(_blobs(10, 1), _blobs(10, 2), solver="svd"))
