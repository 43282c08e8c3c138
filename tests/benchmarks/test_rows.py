"""Rows: whose medians, which way the ratio points, what is written."""

import json
import sys

import pytest

from benchmarks import rows


def test_a_time_is_better_when_smaller_and_compared_within_its_round():
    found = rows.row("c", "time, s", [1.0, 2.0, 4.0], [3.0, 4.0, 20.0], "theirs")
    # Ratios 3, 2 and 5.
    assert found == rows.Row("c", "time, s", 2.0, 4.0, "theirs", 3.0, 1.0, 3)


def test_a_rate_is_better_when_larger_and_a_cost_is_what_ours_adds():
    assert rows.row("c", "images/s", [10.0], [5.0], "p", larger_is_better=True).ratio == 2.0
    assert rows.row("c", "cost of it, s", [1.1], [1.0], "p").ratio == pytest.approx(1.1)


def test_ours_stands_alone_without_a_peer():
    found = rows.row("c", "time, s", [1.0, 3.0, 2.0])
    assert found[2:] == (2.0, None, "", None, 1.0, 3)


def test_contenders_take_turns_after_warming_up():
    calls: list[str] = []
    contenders = {n: lambda n=n: calls.append(n) or float(len(calls)) for n in "ab"}
    found = rows.in_turn(contenders, 2)
    assert calls == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


@pytest.mark.parametrize("path", ["-", "file"])
def test_rows_are_shown_and_written(path, tmp_path, capsys, monkeypatch):
    import argparse

    where = path if path == "-" else str(tmp_path / "x.json")
    monkeypatch.setattr(sys, "argv", ["x", "--json", where])
    rows.run("x", argparse.ArgumentParser(), lambda: iter([rows.row("case", "time, s", [1.5])]))
    out, err = capsys.readouterr()
    written = out if path == "-" else (tmp_path / "x.json").read_text()
    assert "1.5" in (err if path == "-" else out)
    (row,) = json.loads(written)["rows"]
    expected = {"case", "metric", "ours", "peer", "peer_name", "ratio", "spread", "n"}
    assert set(row) == expected and row["ours"] == 1.5
