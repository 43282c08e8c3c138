"""Average precision against scikit-learn and by hand; SVMs."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.transfer import average_precision, one_hot, transfer_svm


def test_voc07_average_precision_by_hand():
    # Ranked: hit, miss, hit, miss, miss. Precision 1, 1/2, 2/3, ...; recall 1/2 from rank 1,
    # 1 from rank 3. Interpolated: 1 for recall 0 ... 0.5 (6 points), 2/3 for 0.6 ... 1 (5).
    scores, truth = np.array([5, 4, 3, 2, 1.0]), np.array([1, 0, 1, 0, 0])
    assert average_precision(scores, truth)[1] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    # The area: half at precision 1, half at 2/3.
    assert average_precision(scores, truth)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_all_recalls_of_ten_hits_reach_their_point():
    # Hits at ranks 1-3, then a miss: recall 0.3 is reached at precision 1, although 3 / 10 and
    # 0.1 * 3 differ in floating point.
    truth = np.array([1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1])
    found = average_precision(-np.arange(11.0), truth)[1]
    assert found == pytest.approx((4 * 1 + 7 * 10 / 11) / 11)


def test_interpolation_only_raises_scikit_learns_average_precision():
    random = np.random.default_rng(0)
    for _ in range(20):
        truth = random.integers(0, 2, 200)
        scores = truth + random.normal(size=200)
        exact = average_precision_score(truth, scores)
        assert exact <= average_precision(scores, truth)[0] <= exact + 0.05


def test_perfect_and_worst_rankings():
    truth = np.array([1] * 5 + [0] * 15)
    assert average_precision(-np.arange(20.0), truth) == (1, 1)
    # All hits last: the best precision is 5 / 20 at full recall.
    assert average_precision(np.arange(20.0), truth)[0] == pytest.approx(0.25)


def _multi_label(count, seed):
    """Three classes, each visible in one direction; several may be present."""
    random = np.random.default_rng(seed)
    targets = (random.uniform(size=(count, 3)) < 0.3).astype(np.int8)
    features = 2 * targets @ np.eye(3, 10) + 0.3 * random.normal(size=(count, 10)) + 0.5
    return Embeddings(features.astype(np.float32), targets)


def test_svm_finds_several_labels_per_image_and_chance_does_not():
    train, test = _multi_label(300, 0), _multi_label(200, 1)
    found = dict(transfer_svm(train, test))
    assert found["transfer_svm_map"] > 0.95
    assert found["transfer_svm_map_voc07"] == pytest.approx(found["transfer_svm_map"], abs=0.05)
    noise = np.random.default_rng(2).normal(size=(300, 10))
    chance = dict(
        transfer_svm(
            Embeddings(noise, train.labels), Embeddings(noise[:200], test.labels), costs=(1.0,)
        )
    )
    assert chance["transfer_svm_map"] < 0.5


def test_ignored_targets_play_no_part():
    (features, targets), test = _multi_label(300, 0), _multi_label(200, 1)
    spoilt = targets.copy()
    spoilt[:100] = 1 - spoilt[:100]
    ignored = spoilt.copy()
    ignored[:100] = -1
    clean = dict(transfer_svm(Embeddings(features[100:], targets[100:]), test, costs=(1.0,)))

    def found(targets):
        return dict(transfer_svm(Embeddings(features, targets), test, costs=(1.0,)))

    assert found(ignored) == pytest.approx(clean)
    assert found(spoilt) != pytest.approx(clean)


def test_one_hot():
    np.testing.assert_array_equal(
        one_hot(np.array([1, -1, 0]), 3), [[0, 1, 0], [-1, -1, -1], [1, 0, 0]]
    )


def test_no_usable_class_is_an_error():
    examples = Embeddings(np.eye(4), np.ones([4, 2]))
    with pytest.raises(UserError, match="present and absent"):
        dict(transfer_svm(examples, examples))
