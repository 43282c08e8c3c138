"""Copies of images, exact and near."""

import time

import numpy as np
import tensorflow as tf

from ifnd_tf.evaluation.duplicates import Duplicates, find_duplicates, fingerprint, grouped


def test_fingerprints_are_equal_for_equal_images_only():
    images = np.random.default_rng(0).integers(0, 256, [200, 8, 8, 3], np.uint8)
    images[7], images[9] = images[3], images[3]
    images[9, 0, 0, 0] ^= 1  # one bit
    found = fingerprint(tf.constant(images)).numpy()
    assert found.dtype == np.int64 and found[7] == found[3] != found[9]
    assert len(set(found.tolist())) == 199


def test_exact_and_near_copies_lead_to_the_earliest_image():
    rng = np.random.default_rng(0)
    features = rng.normal(size=[60, 16]).astype(np.float32) + 5.0  # 5: what all images share
    features[10] = features[2]
    features[20] = features[10] + 0.01 * rng.normal(size=16)
    features[30] = features[4] + 0.01 * rng.normal(size=16)
    prints = np.arange(60)
    prints[10] = prints[2]
    clusters = np.zeros(60, int)
    clusters[30] = 1  # of another cluster than its original: not looked for
    found = find_duplicates(prints, features, clusters, 0.99)
    assert found.repeat.tolist() == [10, 20] and found.original.tolist() == [2, 2]
    assert found.exact.tolist() == [True, False]
    assert found.similarity[0] == 1 and 0.99 <= found.similarity[1] < 1


def test_a_chain_of_near_copies_has_one_original():
    turn = np.radians([0, 10, 20, 180, 190, 200])  # centred: the two groups lie opposite
    features = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    found = find_duplicates(np.arange(6), features, np.zeros(6, int), np.cos(np.radians(12)))
    assert found.repeat.tolist() == [1, 2, 4, 5] and found.original.tolist() == [0, 0, 3, 3]
    assert not found.exact.any()


def test_groups_show_the_largest_first_and_near_copies_before_exact_ones():
    copies = Duplicates(
        np.array([3, 4, 5, 7]), np.array([1, 2, 1, 6]), np.array([1.0, 0.97, 0.96, 1.0]),
        np.array([True, False, False, True]),
    )  # fmt: skip
    assert grouped(copies, most=2, shown=5) == [
        (1, [5, 3], "1 exact, 1 near, cosine from 0.96"),
        (2, [4], "1 near, cosine from 0.97"),
    ]
    assert grouped(copies, most=1, shown=1)[0][1] == [5]


def test_clusters_are_counted():
    counts: list[tuple[int, int]] = []
    find_duplicates(
        np.arange(6), np.eye(6, dtype=np.float32), np.array([0, 7, 0, 7, 3, 0]), 0.9,
        lambda done, total: counts.append((done, total)),
    )  # fmt: skip
    assert counts == [(1, 3), (2, 3), (3, 3)]


def test_a_hundred_thousand_groups_take_no_minutes():
    count = 100_000
    copies = Duplicates(
        np.arange(count) + count, np.arange(count), np.ones(count, np.float32), np.ones(count, bool)
    )
    start = time.monotonic()
    assert grouped(copies, most=2, shown=1) == [
        (0, [count], "1 exact"),
        (1, [count + 1], "1 exact"),
    ]
    assert time.monotonic() - start < 3  # a look at all for each takes 20 s
