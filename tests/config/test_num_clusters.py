import pytest

from ifnd_tf.config import Config
from ifnd_tf.config.num_clusters import resolve_num_clusters
from ifnd_tf.errors import UserError


@pytest.mark.parametrize(
    ("spec", "n", "expected"),
    [
        ("10,20,40", 1500, [10, 20, 40]),
        (" 10, 20 ", 1500, [10, 20]),
        ("1%,2.5%", 1000, [10, 25]),
        ("10,5%", 1000, [10, 50]),
        ("1000", 1000, [1000]),
        ("auto", 50_000, [100, 200, 400]),  # .2, .4 and .8 percent
        ("auto", 1_281_167, [2562, 5124, 10248]),
        ("auto", 100_000_000, [25_000, 50_000, 100_000]),  # kept at PCL's
        ("auto", 1000, [10, 20, 40]),  # kept at 10 or more
        ("auto", 40, [5, 10, 20]),  # N / 8
        ("auto", 16, [2, 4, 8]),
        ("auto", 15, [2, 4]),  # at least 2 examples per cluster
        ("auto", 4, [2]),
        ("auto", 2, [2]),
    ],
)
def test_numbers_of_clusters(spec, n, expected):
    assert resolve_num_clusters(spec, n) == expected


@pytest.mark.parametrize(
    ("spec", "n", "message"),
    [
        ("1,10", 100, "2 or more"),
        ("0", 100, "2 or more"),
        ("0.1%", 100, "2 or more"),
        ("10,200", 100, "K=200"),
        ("20,10", 100, "ascend"),
        ("10,10", 100, "ascend"),
        ("", 100, "whole numbers"),
        ("10,,20", 100, "whole numbers"),
        ("ten", 100, "'ten'"),
        ("nan%", 100, "'nan%'"),
        ("inf%", 100, "'inf%'"),
        ("auto", 1, "K=2"),
    ],
)
def test_numbers_of_clusters_refused(spec, n, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve_num_clusters(spec, n)
    assert "Received:" in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_that_does_not_parse_is_refused_before_any_data_is_open():
    with pytest.raises(UserError, match="--num_clusters: expected whole numbers"):
        Config(num_clusters="10,many")


def test_levels_whose_pairs_could_not_be_counted_are_refused():
    ten = ",".join(map(str, range(10, 20)))
    assert Config(num_clusters=ten).num_clusters == ten
    with pytest.raises(UserError, match="at most 10 numbers.*Received: 11"):
        Config(num_clusters=f"{ten},20")
