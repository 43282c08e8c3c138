"""k-means against NumPy, scikit-learn and itself: compiled, shuffled, padded, replicated."""

import contextlib
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from ifnd_tf.clustering import initialization, lloyd
from ifnd_tf.clustering import kmeans as lib
from ifnd_tf.clustering.initialization import used
from ifnd_tf.clustering.nearest import default_chunk
from ifnd_tf.distribute import stateless_random
from ifnd_tf.distribute.replicas import replica_collectives, traced_for_accelerator
from tests import reference

TAU = 0.2


def points_of(n, width, seed=0, unit=True):
    x = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x


def run(points, centroids, iterations, index=None, chunk=None, collectives=lib.LOCAL):
    index = np.arange(len(points), dtype=np.int32) if index is None else index
    return lib.kmeans(
        tf.convert_to_tensor(points, tf.float32),
        tf.convert_to_tensor(index, tf.int32),
        tf.convert_to_tensor(centroids, tf.float32),
        num_iterations=iterations,
        confidence_temperature=TAU,
        tolerance=0.0,
        relaxation=1.0,
        chunk_size=chunk,
        collectives=collectives,
    )


def start(points, k, seed=0, index=None, **kwargs):
    index = np.arange(len(points), dtype=np.int32) if index is None else index
    return lib.initial_centroids(
        tf.constant(points, tf.float32),
        tf.constant(index, tf.int32),
        num_clusters=k,
        seed=seed,
        **kwargs,
    )


# --- against the slow truth -----------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 7, 64, 1000])
def test_iterations_equal_numpy(chunk):
    points = points_of(200, 5)
    centroids = points[:8].astype(np.float64)
    for iterations in range(4):
        moved, assignments, inertia = reference.kmeans_step(points, centroids)
        result = run(points, points[:8], iterations, chunk=chunk)
        np.testing.assert_allclose(result.centroids, centroids, atol=1e-6)
        np.testing.assert_array_equal(result.assignments, assignments)
        np.testing.assert_allclose(result.inertia, inertia, rtol=1e-5)
        np.testing.assert_array_equal(result.counts, np.bincount(assignments, minlength=8))
        centroids = moved


@pytest.fixture(params=["cpu", "accelerator"])
def traced_for(request):
    """Where the scores of a pass are shared with the confidence, and where they are not."""
    with traced_for_accelerator() if request.param == "accelerator" else contextlib.nullcontext():
        yield


def test_confidence_equals_numpy(traced_for):
    # Rows and centroids of many lengths: the confidence is about angles only.
    points = points_of(60, 6, unit=False) * np.linspace(0.1, 9, 60)[:, None]
    result = run(points, points[:5], 2, chunk=16)
    expected = reference.confidence(
        points, np.asarray(result.centroids), np.asarray(result.assignments), TAU
    )
    np.testing.assert_allclose(result.confidence, expected, rtol=2e-5)


def test_confidence_by_hand(traced_for):
    # Own centroid at cosine 1, the other at 0: e^5 / (e^5 + e^0) with tau = 0.2.
    result = run([[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 1.0]], 0)
    expected = np.exp(5) / (np.exp(5) + 1)
    np.testing.assert_allclose(result.confidence, [expected, expected], rtol=1e-6)


def test_confidence_survives_a_zero_row_and_a_tiny_temperature(traced_for):
    result = lib.kmeans(
        tf.constant([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]),
        tf.range(3),
        tf.constant([[1.0, 0.0], [-1.0, 0.0]]),
        num_iterations=0,
        confidence_temperature=1e-3,
    )
    # The zero row has cosine 0 to both: one half. The others are certain: e^2000 overflows.
    np.testing.assert_allclose(result.confidence, [0.5, 1.0, 1.0], rtol=1e-6)


# --- against scikit-learn -------------------------------------------------------------------


def test_inertia_within_one_percent_of_scikit_learn_from_the_same_start():
    points = points_of(3000, 16)
    theirs = KMeans(40, init=points[:40], n_init=1, max_iter=20, tol=0, algorithm="lloyd")
    theirs.fit(points)
    ours = run(points, points[:40], 20)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_own_start_is_as_good_as_scikit_learns_on_blobs(seed):
    points, _ = make_blobs(2000, n_features=8, centers=20, cluster_std=1.0, random_state=seed)
    theirs = KMeans(20, n_init=1, random_state=seed).fit(points)
    ours = run(points, start(points, 20, seed), 20)
    assert ours.inertia <= 1.05 * theirs.inertia_


def test_start_finds_every_one_of_far_apart_blobs():
    points, labels = make_blobs(600, n_features=4, centers=12, cluster_std=0.01, random_state=1)
    result = run(points, start(points, 12), 0)
    pairs = set(zip(labels.tolist(), np.asarray(result.assignments).tolist(), strict=True))
    assert len(pairs) == 12  # A bijection between blobs and clusters.


# --- properties -----------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**31 - 1),
    n=st.integers(1, 60),
    k=st.integers(1, 20),
    distinct=st.integers(1, 60),
)
def test_properties_hold_on_any_small_input(seed, n, k, distinct):
    points = points_of(distinct, 3, seed)[np.random.default_rng(seed).integers(0, distinct, n)]
    first = start(points, k, seed % 1000)
    assert np.sum(used(first)) == min(k, len(np.unique(points, axis=0)))
    previous = np.inf
    for iterations in (0, 1, 3):
        result = run(points, first, iterations, chunk=16)
        assert result.inertia <= previous * (1 + 1e-5) + 1e-9
        previous = float(result.inertia)
        assignments = np.asarray(result.assignments)
        np.testing.assert_array_equal(result.counts, np.bincount(assignments, minlength=k))
        confidence = np.asarray(result.confidence)
        assert np.all((confidence > 0) & (confidence <= 1))
        assert np.all(np.asarray(used(result.centroids))[assignments])


def test_inertia_never_rises():
    points = points_of(2000, 16)
    inertias = [float(run(points, points[:60], t).inertia) for t in range(0, 12)]
    assert all(b <= a for a, b in itertools.pairwise(inertias))
    assert inertias[-1] < 0.9 * inertias[0]


def test_order_of_examples_does_not_matter():
    points = points_of(1500, 8)
    order = np.random.default_rng(1).permutation(len(points))
    first = start(points, 30, sample_size=700)
    again = start(points[order], 30, index=order, sample_size=700)
    np.testing.assert_array_equal(first, again)
    result, shuffled = run(points, first, 5), run(points[order], again, 5, index=order)
    np.testing.assert_array_equal(np.asarray(result.assignments)[order], shuffled.assignments)
    np.testing.assert_allclose(result.centroids, shuffled.centroids, atol=1e-6)
    np.testing.assert_allclose(np.asarray(result.confidence)[order], shuffled.confidence, rtol=1e-5)


def test_ties_are_broken_by_index_not_by_place():
    # Four points at distance 1 of the first centroid, for the two clusters that are empty.
    points = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    centroids = [[0.0, 0]] + [[50.0, 50]] * 2 + [[1e15, 1e15]] * 3
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        result = run(points[order], centroids, 1, index=order)
        np.testing.assert_allclose(result.centroids[1:5], points[1:5])


def test_ties_in_the_sample_are_broken_by_index_not_by_place():
    # Two examples that draw the same of 2^24 priorities; one of them is sampled.
    draws = np.asarray(stateless_random.uniform([0, initialization._SAMPLE], tf.range(30_000), 1))[
        :, 0
    ]
    order = np.argsort(draws, kind="stable")
    first = np.flatnonzero(np.diff(draws[order]) == 0)[0]
    index = order[first : first + 2]
    points = np.array([[1.0, 0], [0, 1]], np.float32)
    picked = start(points, 1, index=index, sample_size=1)
    again = start(points[::-1], 1, index=index[::-1], sample_size=1)
    np.testing.assert_array_equal(picked, points[np.argmin(index)][None])
    np.testing.assert_array_equal(again, picked)


def test_another_seed_starts_elsewhere():
    points = points_of(500, 8)
    assert not np.array_equal(start(points, 10, seed=0), start(points, 10, seed=1))


@pytest.mark.parametrize("jit", [False, True])
def test_padding_rows_are_ignored_whatever_they_hold(jit):
    points = points_of(100, 4)
    index = np.arange(100, dtype=np.int32)
    junk = np.array([[np.nan] * 4, [np.inf] * 4, [1e30] * 4], np.float32)
    padded = np.insert(points, [0, 50, 100], junk, axis=0)
    padded_index = np.insert(index, [0, 50, 100], -1)
    real = padded_index >= 0
    first = start(padded, 6, index=padded_index)
    np.testing.assert_allclose(first, start(points, 6), atol=1e-6)
    compiled = tf.function(run, jit_compile=jit)
    result = compiled(tf.constant(padded), first, 5, tf.constant(padded_index), chunk=32)
    plain = run(points, first, 5, chunk=32)
    np.testing.assert_array_equal(np.asarray(result.assignments)[~real], -1)
    np.testing.assert_array_equal(np.asarray(result.confidence)[~real], 0)
    np.testing.assert_array_equal(np.asarray(result.assignments)[real], plain.assignments)
    np.testing.assert_allclose(result.centroids, plain.centroids, atol=1e-6)
    np.testing.assert_allclose(result.inertia, plain.inertia, rtol=1e-6)
    assert int(tf.reduce_sum(result.counts)) == 100


def test_first_centroid_is_drawn_uniformly_and_the_next_by_distance():
    # On a line: 0, 1 and 3. Greedy k-means++ with K = 2 draws all 2 candidates it may, and
    # keeps the better: from 0 it is 3 (inertia 1, not 4), from 1 it is 3, from 3 it is 0 or
    # 1 (inertia 1 either way, so the likelier).
    points = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]], np.float32)
    chosen = tf.function(lambda seed: start(points, 2, seed=seed, num_iterations=0)[:, 0])
    firsts = [chosen(tf.constant(seed)).numpy() for seed in range(300)]
    counts = [np.sum([f[0] == x for f in firsts]) for x in (0, 1, 3)]
    # Binomial(300, 1/3) has mean 100 and standard deviation 8.2.
    assert all(65 < c < 135 for c in counts), counts
    assert all(f[1] == 3 for f in firsts if f[0] != 3)


def test_rows_are_drawn_in_proportion_to_their_weight():
    draws = initialization._Draws(tf.eye(3), tf.range(3), 0)

    @tf.function
    def winners():
        return tf.map_fn(lambda step: draws.race(step, [1.0, 2.0, 5.0], 1)[1][0], tf.range(1000))

    shares = np.bincount(winners(), minlength=3) / 1000  # standard deviations of 0.015
    np.testing.assert_allclose(shares, [1 / 8, 2 / 8, 5 / 8], atol=0.05)


def test_many_clusters_are_drawn_in_blocks_and_far_apart():
    points = points_of(3000, 4)
    drawn = np.asarray(start(points, 300, num_iterations=0))
    assert len(np.unique(drawn, axis=0)) == 300  # rows of the data, none of them twice
    assert all(np.any(np.all(points == row, axis=1)) for row in drawn[::30])
    random = points[np.random.default_rng(0).choice(3000, 300, replace=False)]
    assert run(points, drawn, 0).inertia < 0.9 * run(points, random, 0).inertia


def test_up_to_128_clusters_are_drawn_one_at_a_time():
    # Far-apart groups of four equal points: one draw at a time never returns to a group, a round
    # of several draws does.
    groups = np.repeat(100 * points_of(129, 8, unit=False), 4, axis=0)

    def found(k):
        return len(np.unique(start(groups[: 4 * k], k, num_iterations=0), axis=0))

    assert found(128) == 128
    assert found(129) < 129


@pytest.mark.slow
def test_a_start_is_clustered_on_its_sample():
    points = points_of(4000, 6)
    drawn, refined = (run(points, start(points, 40, num_iterations=n), 0) for n in (0, 20))
    settled = run(points, start(points, 40), 20)
    assert refined.inertia < drawn.inertia
    assert refined.inertia < 1.03 * settled.inertia


# --- when to stop, and how far to go ----------------------------------------------------------


def test_gain_is_the_share_of_the_inertia_that_means_remove():
    points, centroids = points_of(300, 5), points_of(8, 5, seed=1)
    moved = lloyd.move_centroids(
        tf.constant(points), tf.range(300), tf.constant(centroids), relaxation=1.0
    )
    labels = np.asarray(run(points, centroids, 0).assignments)
    before, after = (
        np.sum((points - np.asarray(c)[labels]) ** 2) for c in (centroids, moved.centroids)
    )
    np.testing.assert_allclose(moved.gain, (before - after) / before, rtol=1e-4)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**12])  # exact in floating point
def test_the_unit_of_the_points_changes_nothing(scale):
    points, index = points_of(60, 4), tf.range(60)
    first = start(points, 6)
    np.testing.assert_array_equal(start(scale * points, 6), scale * first)
    moved = lloyd.move_centroids(tf.constant(points), index, first)
    other = lloyd.move_centroids(tf.constant(scale * points), index, scale * first)
    np.testing.assert_array_equal(other.centroids, scale * moved.centroids)
    assert 0.0 < moved.gain == other.gain


def test_points_on_their_centroids_are_settled():
    points = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    moved = lloyd.move_centroids(points, tf.range(2), points)
    assert moved.gain == 0.0 and moved.settled(0.0)


@pytest.mark.parametrize(("tolerance", "expected"), [(1.0, 1), (0.0, 50)])
def test_iterations_end_when_the_inertia_settles(tolerance, expected):
    points = points_of(400, 5)
    found = lib.kmeans(
        points,
        tf.range(400),
        points[:8],
        num_iterations=50,
        confidence_temperature=TAU,
        tolerance=tolerance,
        relaxation=1.0,
    )
    np.testing.assert_allclose(found.centroids, run(points, points[:8], expected).centroids)


def test_by_default_iterations_end_when_little_is_gained():
    points = points_of(400, 5)
    found = lib.kmeans(
        points, tf.range(400), points[:8], num_iterations=50, confidence_temperature=TAU,
        relaxation=1.0,
    )  # fmt: skip
    settled = run(points, points[:8], 50)
    assert not np.allclose(found.centroids, settled.centroids, atol=1e-4)
    assert settled.inertia <= found.inertia <= 1.01 * settled.inertia


@pytest.mark.parametrize("relaxation", [0.5, lloyd.RELAXATION, 1.9])
def test_inertia_never_rises_however_far_centroids_go(relaxation):
    points = points_of(2000, 16)

    def inertia(iterations):
        found = lib.kmeans(
            points,
            tf.range(2000),
            points[:60],
            num_iterations=iterations,
            confidence_temperature=TAU,
            tolerance=0.0,
            relaxation=relaxation,
        )
        return float(found.inertia)

    inertias = [inertia(t) for t in range(0, 10)]
    assert all(b <= a for a, b in itertools.pairwise(inertias))
    if relaxation == lloyd.RELAXATION:
        assert inertias[-1] <= float(run(points, points[:60], 9).inertia)


# --- empty clusters, too many clusters ---------------------------------------------------------


def test_empty_cluster_moves_to_the_worst_fitted_point():
    # Both centroids of interest start right of everything; all points go to the first.
    points = np.array([[0.0, 0], [1, 0], [2, 0], [10, 0]], np.float32)
    result = run(points, [[1.0, 0], [100, 0]], 1)
    # The mean 13/4 of all, and the point farthest from the old centroid 1, which is 10.
    np.testing.assert_allclose(result.centroids, [[3.25, 0], [10, 0]])
    assert int(result.reseeded) == 1
    np.testing.assert_array_equal(result.counts, [3, 1])


def test_several_empty_clusters_move_as_in_the_reference():
    points = points_of(50, 3)
    centroids = np.concatenate([points[:3], np.full((4, 3), 50.0)]).astype(np.float32)
    expected, _, _ = reference.kmeans_step(points, centroids)
    result = run(points, centroids, 1, chunk=8)
    np.testing.assert_allclose(result.centroids, expected, atol=1e-6)
    assert int(result.reseeded) == 4


@pytest.mark.parametrize("jit", [False, True])
def test_more_clusters_than_distinct_points(jit):
    points = np.repeat(points_of(5, 4), 20, axis=0)

    @tf.function(jit_compile=jit)
    def both(points, index):
        first = lib.initial_centroids(points, index, num_clusters=9, seed=3)
        return lib.kmeans(points, index, first, num_iterations=4, confidence_temperature=TAU)

    result = both(tf.constant(points), tf.range(100))
    assert int(tf.reduce_sum(tf.cast(used(result.centroids), tf.int32))) == 5
    np.testing.assert_array_equal(np.sort(result.counts), [0] * 4 + [20] * 5)
    assert int(result.reseeded) == 0
    np.testing.assert_allclose(result.inertia, 0, atol=1e-9)
    # Unused centroids do not dilute the confidence.
    kept = np.asarray(result.centroids)[np.asarray(used(result.centroids))]
    codes = np.argmin(reference.squared_distances(points, kept), axis=1)
    np.testing.assert_allclose(
        result.confidence, reference.confidence(points, kept, codes, TAU), rtol=1e-5
    )


def test_equal_centroids_come_apart_and_needless_ones_retire():
    # From a warm start whose centroids are all alike: two distinct points, three clusters.
    points = np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    result = run(points, [[1.0, 0], [1, 0], [1, 0]], 3)
    assert sorted(np.asarray(result.counts).tolist()) == [0, 2, 2]
    assert np.sum(used(result.centroids)) == 2
    assert float(result.inertia) == 0


def test_unused_centroids_return_when_the_points_spread_out():
    first = start(np.repeat(points_of(2, 4), 10, axis=0), 6)
    assert np.sum(used(first)) == 2
    result = run(points_of(200, 4, seed=5), first, 5)
    assert np.sum(used(result.centroids)) == 6
    assert np.all(np.asarray(result.counts) > 0)


def test_no_example_at_all():
    points, index = points_of(8, 4), np.full(8, -1, np.int32)
    result = run(points, points[:2], 2, index=index)
    np.testing.assert_array_equal(result.assignments, [-1] * 8)
    np.testing.assert_array_equal(result.counts, [0, 0])
    assert float(result.inertia) == 0


def test_tight_clusters_far_from_the_origin_keep_their_inertia():
    # |x|^2 - 2 x.c + |c|^2 would be off by 1e-7 * |x|^2 = 1e-3, ten times the truth.
    spread = np.random.default_rng(0).normal(size=(100, 4)) * 1e-3
    points = (np.array([100.0, 0, 0, 0]) + spread).astype(np.float32)
    exact = np.sum((points.astype(np.float64) - points.astype(np.float64).mean(0)) ** 2)
    np.testing.assert_allclose(run(points, points[:1], 3).inertia, exact, rtol=0.02)


def test_rows_that_share_a_direction_get_their_true_nearest_centroid():
    # As embeddings early in training: x.c is 1 up to its own rounding, for all of them.
    points = points_of(1, 8) + 1e-3 * points_of(500, 8, seed=1, unit=False)
    nearest = reference.kmeans_step(points, points[:20].astype(np.float64))[1]
    np.testing.assert_array_equal(run(points, points[:20], 0).assignments, nearest)


def test_collapsed_embeddings_still_start_from_different_points():
    # Early in training all embeddings may share a direction up to 1e-3.
    points = np.array([1.0, 0, 0, 0]) + 1e-3 * points_of(300, 4)
    first = np.asarray(start(points, 10))
    assert len(np.unique(first, axis=0)) == 10
    assert np.all(np.asarray(used(tf.constant(first))))


# --- eager = graph = XLA, and no N x K matrix ------------------------------------------------


def test_eager_graph_and_xla_agree():
    points, index = tf.constant(points_of(300, 8)), tf.range(300)

    def both(points, index):
        first = lib.initial_centroids(points, index, num_clusters=12, seed=0)
        return first, lib.kmeans(
            points, index, first, num_iterations=4, confidence_temperature=TAU, chunk_size=64
        )

    first, eager = both(points, index)
    for jit in (False, True):
        other_first, other = tf.function(both, jit_compile=jit)(points, index)
        np.testing.assert_allclose(first, other_first, atol=1e-6)
        np.testing.assert_array_equal(eager.assignments, other.assignments)
        np.testing.assert_allclose(eager.centroids, other.centroids, atol=1e-6)
        np.testing.assert_allclose(eager.confidence, other.confidence, rtol=1e-5)
        np.testing.assert_allclose(eager.inertia, other.inertia, rtol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(1, 129), (5, 200), (20, 1000)])
def test_more_clusters_than_points_are_drawn_at_once(n, k):
    centroids = start(points_of(n, 8), k)
    assert centroids.shape == (k, 8)
    assert np.sum(used(centroids)) == n


def test_padding_comes_last_in_a_sample():
    index = tf.constant([-1, 7, -1, 2])
    points, found = initialization.sample(tf.eye(4), index, 4, 0, lib.LOCAL)
    np.testing.assert_array_equal(found, [2, 7, -1, -1])
    np.testing.assert_array_equal(points, [np.eye(4)[3], np.eye(4)[1], np.zeros(4), np.zeros(4)])


@pytest.mark.parametrize("k", [20, 200])
def test_padding_changes_no_draw(k):
    points = points_of(300, 6) + 3.0  # far from the padding's zeros
    padded = np.concatenate([points, np.zeros([200, 6], np.float32)])
    index = tf.where(tf.range(500) < 300, tf.range(500), -1)
    plain = initialization.spread_centroids(tf.constant(points), index[:300], k, 0)
    drawn = initialization.spread_centroids(tf.constant(padded), index, k, 0)
    np.testing.assert_array_equal(drawn, plain)


# Beyond 128 clusters a round draws 7 rows, which may be equal; the next round draws none of them.
@pytest.mark.parametrize(("k", "most"), [(20, 5), (200, 14)])
def test_draws_end_where_no_distinct_point_is_left(k, most):
    drawn = start(np.repeat(points_of(5, 8), 60, axis=0), k, num_iterations=0)
    assert 5 <= np.sum(used(drawn)) <= most


def test_padding_is_no_centroid_where_examples_are_fewer_than_a_round():
    points = np.concatenate([points_of(5, 8), np.zeros([40, 8], np.float32)])
    index = tf.where(tf.range(45) < 5, tf.range(45), -1)
    drawn = initialization.spread_centroids(tf.constant(points), index, 200, 0)
    assert np.sum(used(drawn)) == 5
    assert np.all(tf.reduce_any(drawn != 0, axis=1))


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_compiled_sums_are_the_plain_ones(dtype):
    points = points_of(1000, 32)
    points[::7] = np.nan  # padding rows may hold anything
    labels = np.random.default_rng(1).integers(-1, 50, 1000).astype(np.int32)
    labels[::7] = -1
    arguments = tf.cast(points, dtype), tf.constant(labels), 50
    plain, compiled = lloyd._sums(*arguments), lloyd._compiled_sums(*arguments)
    np.testing.assert_allclose(compiled, plain, rtol=1e-6, atol=1e-6)
    assert np.isfinite(plain).all()


def test_chunks_hold_few_scores_but_not_few_rows():
    # On a CPU 2^20 scores at a time, in whole 256 rows, of which at most 32.
    assert [default_chunk(k) for k in (1, 1000, 4000, 10**6)] == [8192, 1024, 256, 256]


def graphs_of(function):
    yield function.graph
    for each in function.graph._functions.values():
        if hasattr(each, "graph"):
            yield each.graph


def intermediates(concrete):
    """The elements of every tensor of static shape in a traced function and its loops."""
    return [
        output.shape.num_elements()
        for function in graphs_of(concrete)
        for op in function.get_operations()
        for output in op.outputs
        if output.shape.is_fully_defined()
    ]


def test_draws_of_many_clusters_from_a_large_sample_take_16_megabytes():
    sample, width, k = 1 << 16, 4, 1 << 14  # K / 32 = 512 rows a round would take 128 MB
    concrete = tf.function(initialization.spread_centroids).get_concrete_function(
        tf.TensorSpec([sample, width]), tf.TensorSpec([sample], tf.int32), k, 0
    )
    assert max(intermediates(concrete)) == (16 << 20) / 4


@pytest.mark.parametrize(
    ("n", "width", "k", "chunk"), [(5000, 8, 300, 128), (100_000, 64, 5000, None)]
)
def test_no_intermediate_is_examples_by_clusters(n, width, k, chunk):
    @tf.function
    def f(points, index, centroids):
        return lib.kmeans(
            points, index, centroids, num_iterations=2, confidence_temperature=TAU, chunk_size=chunk
        )

    concrete = f.get_concrete_function(
        tf.TensorSpec([n, width]), tf.TensorSpec([n], tf.int32), tf.TensorSpec([k, width])
    )
    sizes = intermediates(concrete)
    # The loops' bodies are seen (a chunk's scores), and nothing is larger than the points.
    chunk = chunk or default_chunk(k)
    assert chunk * k in sizes
    assert max(sizes) <= -(-n // chunk) * chunk * width


# --- replicas ---------------------------------------------------------------------------------


def shard(values, replicas):
    return [
        values[r * len(values) // replicas :][: len(values) // replicas] for r in range(replicas)
    ]


@pytest.mark.slow
def test_same_clusters_on_any_number_of_replicas(strategy):
    replicas = strategy.num_replicas_in_sync
    # More clusters than the sample holds, so that the rest start empty and are re-seeded.
    n, padding, k, sample = 230, 10, 60, 48
    points = np.concatenate([points_of(n, 6), np.full((padding, 6), np.nan, np.float32)])
    points[: n // 4] = points[0]  # Duplicates, so that ties and empty clusters occur.
    index = np.concatenate([np.arange(n), np.full(padding, -1)]).astype(np.int32)
    # Dealt out of order: replicas must agree by index, not by position.
    order = np.random.default_rng(2).permutation(n + padding)

    def begin(points, index):
        collectives = replica_collectives()
        first = lib.initial_centroids(
            points, index, num_clusters=k, seed=7, sample_size=sample, collectives=collectives
        )
        moved = lloyd.move_centroids(
            points, index, first, relaxation=1.0, chunk_size=16, collectives=collectives
        )
        return first, *moved[:2]

    def finish(points, index, centroids):
        return lib.kmeans(
            points,
            index,
            centroids,
            num_iterations=1,
            confidence_temperature=TAU,
            relaxation=1.0,
            chunk_size=16,
            collectives=replica_collectives(),
        )

    def split(values):
        parts = [tf.constant(part) for part in shard(values[order], replicas)]
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    data = split(points), split(index)
    first, moved, reseeded = tf.function(lambda *args: strategy.run(begin, args=args))(*data)
    result = tf.function(lambda *args: strategy.run(finish, args=args))(*data, moved)
    local = strategy.experimental_local_results
    expected_first = start(points, k, seed=7, index=index, sample_size=sample)
    expected = run(points, expected_first, 2, index=index, chunk=16)
    for replica in range(replicas):
        np.testing.assert_allclose(local(first)[replica], expected_first, atol=1e-6)
        np.testing.assert_allclose(local(result.centroids)[replica], expected.centroids, atol=1e-5)
        np.testing.assert_array_equal(local(result.counts)[replica], expected.counts)
        np.testing.assert_allclose(local(result.inertia)[replica], expected.inertia, rtol=1e-5)
        total = int(local(reseeded)[replica]) + int(local(result.reseeded)[replica])
        assert total == int(expected.reseeded) >= k - sample
    for name in ("assignments", "confidence"):
        gathered = np.concatenate([np.asarray(v) for v in local(getattr(result, name))])
        np.testing.assert_allclose(
            gathered, np.asarray(getattr(expected, name))[order], rtol=1e-4, atol=1e-6
        )


def test_replica_collectives_outside_a_replica_say_so(strategy):
    if strategy.num_replicas_in_sync == 1:
        pytest.skip("the default strategy is always in a replica context")
    with strategy.scope(), pytest.raises(RuntimeError, match=r"strategy\.run"):
        replica_collectives()
