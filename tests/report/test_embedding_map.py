"""The map keeps near what is near, and says which point is which."""

from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_info, threadpool_limits

from ifnd_tf.report import embedding_map

_USE = "{http://www.w3.org/2000/svg}use"


def two_groups(count):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, 6)) * 0.1
    rows[::2, 0] += 1
    rows[1::2, 1] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("quick", [True, False])
def test_groups_stay_apart(quick):
    places, words = embedding_map.project(two_groups(40), quick=quick, seed=0)
    assert ("principal components" in words) == quick and ("t-SNE" in words) != quick
    first, second = places[::2], places[1::2]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > 2 * max(first.std(), second.std()) / 2


def test_the_map_takes_one_thread(monkeypatch):
    threads = []

    def place(self, points):
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return np.zeros([len(points), 2])

    monkeypatch.setattr(TSNE, "fit_transform", place)
    with threadpool_limits(2):
        embedding_map.project(two_groups(40), quick=False, seed=0)
    assert set(threads) == {1}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_few_points_are_placed_as_well(count):
    places, _ = embedding_map.project(two_groups(count), quick=False, seed=0)
    assert places.shape == (count, 2) and np.isfinite(places).all()


def test_a_collapsed_embedding_is_placed_at_one_point():
    places, words = embedding_map.project(np.full([30, 4], 0.5), quick=False, seed=0)
    assert not places.any() and "the same" in words


@pytest.mark.parametrize("count", [3, 4, 8])
def test_names_at_the_edge_do_not_shrink_the_map(count):
    for places in np.random.default_rng(0).random([5, count, 2]):
        embedding_map.draw("map", places, np.arange(count) % 2, {0: "cat", 1: "dog"})  # no warning


def test_every_point_is_drawn_where_the_order_says():
    places = [(float(i), float(i % 3)) for i in range(9)]
    drawn = embedding_map.draw("map", places, [4, 2, -1] * 3, {4: "<b>", 2: "two"})
    assert sorted(drawn.order) == list(range(9))
    tree = ElementTree.fromstring(drawn.svg)
    groups = [g for g in tree.iter() if g.get("class") == "points"]
    x = [float(use.get("x")) for group in groups for use in group.iter(_USE)]
    assert len(x) == 9
    # The drawing is linear in x: points further right come further right.
    assert np.argsort(x).tolist() == np.argsort(drawn.order).tolist()
    assert "<b>" not in drawn.svg and "&lt;b&gt;" in drawn.svg


def test_more_groups_than_kinds_of_points():
    count = 300
    drawn = embedding_map.draw("map", [(i, i) for i in range(count)], list(range(count)), {})
    assert drawn.svg.count("<use") == count == len(drawn.order)


def test_a_name_does_not_hide_a_small_group():
    """Names and points in the drawing's own coordinates, in which y grows downwards."""
    rng = np.random.default_rng(0)
    small, large = rng.normal([8, 8], 0.05, [6, 2]), rng.normal([0, 0], 2.0, [60, 2])
    drawn = embedding_map.draw(
        "map", np.concatenate([small, large]).tolist(), [0] * 6 + [1] * 60, {0: "few", 1: "many"}
    )
    tree = ElementTree.fromstring(drawn.svg)
    points = [
        [float(use.get("y")) for use in g.iter(_USE)]
        for g in tree.iter()
        if g.get("class") == "points"
    ]
    written = {
        each.text: float(each.get("transform").partition("(")[2].split(")")[0].split()[-1])
        if each.get("transform")
        else float(each.get("y"))
        for each in tree.iter("{http://www.w3.org/2000/svg}text")
    }
    assert written["few"] < min(points[0]) - 3
    assert min(points[1]) < written["many"] < max(points[1])
