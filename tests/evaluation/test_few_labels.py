"""Subsets are balanced, fixed by their seed, and impossible ones are refused."""

import numpy as np
import pytest

from ifnd_tf.config import Config
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.few_labels import label_subset, label_subset_probe, subset_name
from ifnd_tf.run.metric_names import describe


def _labels(count=500, classes=5):
    labels = np.random.default_rng(0).integers(0, classes, count).astype(np.int32)
    labels[::10] = -1
    return labels


@pytest.mark.parametrize(("share", "each"), [(0.1, 9), (0.5, 45), (0.001, 1), (1, 1), (5, 5)])
def test_every_class_gives_equally_many(share, each):
    labels = _labels()  # 450 labelled: 10% of them are 45, so 9 of each of 5 classes
    chosen = label_subset(labels, share, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [each] * 5)
    assert len(np.unique(chosen)) == len(chosen)
    assert (labels[chosen] >= 0).all()


def test_the_seed_alone_decides():
    labels = _labels()
    np.testing.assert_array_equal(
        label_subset(labels, 0.1, seed=3), label_subset(labels, 0.1, seed=3)
    )
    assert set(label_subset(labels, 0.1, seed=3)) != set(label_subset(labels, 0.1, seed=4))


def test_a_larger_share_contains_the_smaller():
    labels = _labels()
    assert set(label_subset(labels, 0.1, seed=0)) < set(label_subset(labels, 0.2, seed=0))


def test_a_class_with_too_few_images_is_an_error_that_names_it():
    labels = np.array([0] * 98 + [1] * 2, np.int32)
    with pytest.raises(UserError, match=r"at least 5 .* Received: 2 of class 'rare'"):
        label_subset(labels, 0.1, seed=0, class_names=["common", "rare"])


@pytest.mark.parametrize("share", [0, 1.5, -0.1, -2])
def test_a_share_out_of_range_is_an_error(share):
    with pytest.raises(UserError, match="share of the labels"):
        label_subset(_labels(), share, seed=0)


def test_shots_are_labels_of_every_class():
    labels = _labels()
    assert set(label_subset(labels, 1, seed=0)) < set(label_subset(labels, 5, seed=0))
    with pytest.raises(UserError, match=r"at least 5 .* balanced 5shot. Received: 2"):
        label_subset(np.array([0] * 98 + [1] * 2, np.int32), 5, seed=0)
    assert Config(label_shares="1shot, 10%,5shot").shares == (1, 0.1, 5)
    assert [subset_name(share) for share in (1, 0.1, 5)] == ["1shot", "10pct", "5shot"]
    assert describe("linear_1shot_top1").text == "linear probe accuracy, 1 label a class"
    assert describe("linear_5shot_top5").text == "linear probe accuracy, 5 labels a class, top-5"


@pytest.mark.parametrize("text", ["0shot", "-1shot", "1.5shot", "shot", "5 shots"])
def test_no_other_shots(text):
    with pytest.raises(UserError, match="--label_shares: expected percentages.*1shot,5shot"):
        Config(label_shares=text)


def test_no_labels_are_an_error():
    with pytest.raises(UserError, match="Received: none"):
        label_subset(np.full(10, -1), 0.1, seed=0)


def test_the_probe_gets_better_with_more_labels():
    random = np.random.default_rng(1)
    centres = random.normal(size=(5, 20))

    def draw(count):
        labels = random.integers(0, 5, count).astype(np.int32)
        features = centres[labels] + 1.5 * random.normal(size=(count, 20))
        return Embeddings(features.astype(np.float32), labels)

    found = dict(label_subset_probe(draw(1000), draw(500), shares=(0.01, 0.5), seeds=(0, 1)))
    assert set(found) == {
        "linear_1pct_top1", "linear_1pct_top1_std", "linear_50pct_top1", "linear_50pct_top1_std",
    }  # fmt: skip
    assert found["linear_50pct_top1"] > found["linear_1pct_top1"] + 0.1
    assert found["linear_1pct_top1_std"] > 0
