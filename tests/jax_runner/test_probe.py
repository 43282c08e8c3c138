"""The runner's linear probe where it needs no JAX."""

import numpy as np

from jax_runner.probe import linear_probe

SGD = {"solver": "sgd", "epochs": 0, "learning_rate": 1.0, "seed": 0}  # weights of 0: equal scores
FEATURES = np.ones([4, 3], np.float32)


def test_equal_scores_are_right_by_chance():
    known = FEATURES, np.array([0, 1, 2, 3])
    assert dict(linear_probe(known, known, **SGD)) == {"linear_top1": 0.25}


def test_features_that_are_not_finite_are_never_right():
    known = np.nan * FEATURES, np.array([0, 1, 2, 3])
    assert dict(linear_probe(known, known, **SGD)) == {"linear_top1": 0.0}


def test_a_class_without_training_examples_is_never_right():
    known, asked = (FEATURES, np.array([0, 0, 1, 1])), (FEATURES, np.array([0, 1, 2, 2]))
    assert dict(linear_probe(known, asked, **SGD)) == {"linear_top1": 0.25}
