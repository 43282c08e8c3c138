"""What is chosen for the galleries is what the labels say."""

import numpy as np

from ifnd_tf.report import picture_choice


def test_members_are_sorted_by_confidence_and_shown_once():
    #          index: 0    1    2    3    4    5    6
    labels = np.array([3, 3, 3, 3, 3, -1, 1])
    confidence = np.array([0.5, 0.9, 0.1, 0.7, 0.3, 1.0, 0.2])
    classes = np.array([0, 0, 1, 0, -1, 1, 1])
    big, small = picture_choice.clusters(labels, confidence, classes, most=5, members=2)
    assert (big.number, big.size, big.most, big.least) == (3, 5, [1, 3], [2, 4])
    assert (big.label, big.share) == (0, 0.75)  # three of the four whose class is known
    assert (small.number, small.size, small.most, small.least) == (1, 1, [6], [])


def test_a_cluster_of_unknown_classes_has_no_share():
    labels, unknown = np.array([0, 0]), np.array([-1, -1])
    (cluster,) = picture_choice.clusters(labels, np.ones(2), unknown, most=1, members=1)
    assert cluster.share is None and cluster.label == -1


def test_many_clusters_are_thinned_from_the_largest_to_the_smallest():
    sizes = np.arange(1, 101)
    labels = np.repeat(np.arange(100), sizes)
    chosen = picture_choice.clusters(labels, np.ones(len(labels)), labels, most=10, members=3)
    assert [c.size for c in chosen] == [100, 89, 78, 67, 56, 45, 34, 23, 12, 1]


def test_removed_images_share_an_accepted_label_with_the_anchor():
    labels = np.array([[0, 0, 1, 1, -1, -1], [5, -1, 5, -1, -1, 9]])
    classes = np.array([7, 7, 8, 7, 7, 7])
    found = picture_choice.removed(labels, classes, anchors=10, shown=10, seed=0)
    by_anchor = {each.anchor: each for each in found}
    assert set(by_anchor) == {0, 1, 2, 3}  # 4 has no label, 5 is alone with its
    first = by_anchor[0]
    assert sorted(zip(first.shown, first.levels, strict=True)) == [(1, [0]), (2, [1])]
    assert (first.total, first.right) == (2, 0.5)
    assert found == picture_choice.removed(labels, classes, anchors=10, shown=10, seed=0)


def test_removed_images_of_unknown_class_are_not_judged():
    labels, classes = np.zeros([1, 3], int), np.array([-1, 2, -1])
    found = picture_choice.removed(labels, classes, anchors=3, shown=1, seed=0)
    assert [each.right for each in found] == [None] * 3
    assert all(len(each.shown) == 1 and each.total == 2 for each in found)


def test_without_labels_nothing_is_removed():
    none = np.zeros([0, 4], int)
    assert picture_choice.removed(none, np.zeros(4, int), anchors=3, shown=3, seed=0) == []


def test_neighbours_are_those_of_a_full_search():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(30, 4))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    indices = np.arange(100, 130)
    for found in picture_choice.neighbours(embedding, indices, queries=5, nearest=3, seed=1):
        distance = np.linalg.norm(embedding - embedding[found.query - 100], axis=1)
        assert found.nearest == (np.argsort(distance)[1:4] + 100).tolist()
        assert found.cosine == sorted(found.cosine, reverse=True)


def test_one_image_has_no_neighbours():
    (found,) = picture_choice.neighbours(
        np.ones([1, 2]), np.array([5]), queries=3, nearest=3, seed=0
    )
    assert (found.query, found.nearest) == (5, [])
