"""The pages' tables are what the committed results give."""

import json

import pytest

from benchmarks import table


@pytest.mark.parametrize("page", table.PAGES, ids=lambda page: page.stem)
def test_pages_show_the_committed_results(page):
    text = page.read_text()
    assert "<!-- benchmarks:" in text
    assert table.filled(text) == text, "run `python -m benchmarks.table`"


def test_a_number_that_changes_changes_the_page(tmp_path):
    row = {
        "case": "c", "metric": "time, s", "ours": 0.5, "peer": 6.0, "peer_name": "them",
        "ratio": 12.0, "spread": 0.1, "n": 3,
    }  # fmt: skip
    result = {"benchmark": "x", "machine": "m", "date": "2026-11-25", "rows": [row]}
    (tmp_path / "x.json").write_text(json.dumps(result))
    page = "before\n<!-- benchmarks: x -->\nold\n<!-- end -->\nafter\n"
    shown = table.filled(page, tmp_path)
    assert "| x | c | time, s | 0.5 | 6 them | **12x** | 10% |" in shown
    assert "Measured on m, 2026-11-25: x." in shown
    assert shown.startswith("before\n") and shown.endswith("<!-- end -->\nafter\n")
    assert "old" not in shown and table.filled(shown, tmp_path) == shown
