"""The report is one file that says what the run's records say."""

import json
import re
from html.parser import HTMLParser

import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.report import run_report as report


@pytest.fixture
def run(tmp_path):
    """A run directory of three epochs and two refreshes."""
    metrics = [
        {"epoch": 1, "step": 11, "loss": 6.0, "images_per_second": 900.0},
        {"epoch": 2, "step": 22, "loss": 5.0, "online_knn_top1": 0.9, "masked_share": 0.0},
        {"epoch": 3, "step": 33, "loss": 4.0, "online_knn_top1": 0.95, "masked_share": 0.02},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in metrics))
    results = {"knn_top1": 0.9831, "raw_pixel_knn_top1": 0.9712, "wall_seconds": 84.5}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "config.flags").write_text("--experiment=tiny\n--detector=ifnd\n--loss=a=b<c>\n")
    (tmp_path / "detection").mkdir()
    for epoch in (1, 2):
        statistics = {"epoch": epoch, "clusters": [5, 7], "level_precision": [0.5, 0.25 * epoch]}
        (tmp_path / f"detection/{epoch:04d}.json").write_text(json.dumps(statistics))
    return tmp_path


class _Checker(HTMLParser):
    """Fails on a tag that is closed out of turn; gathers links."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _report(run):
    path = report.write(str(run))
    assert path == f"{run}/report.html"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.links == []
    assert "url(" not in text and "<script" not in text  # self-contained
    return text


def test_says_what_the_records_say(run):
    text = _report(run)
    assert re.search(r'<tr><td class="">kNN accuracy</td><td class="number">98\.3%</td>', text)
    assert re.search(r"raw pixels: kNN accuracy</td><td class=\"number\">97\.1%", text)
    assert "while training" in text
    assert "loss: 5 at 2" in text
    assert "tiny: incremental false negative detection" in text


def test_has_a_curve_for_each_level(run):
    text = _report(run)
    assert "K = 5: 50.0% at 2" in text
    assert "K = 7: 25.0% at 1" in text
    assert "K = 7: 50.0% at 2" in text


def test_settings_are_escaped(run):
    assert "a=b&lt;c&gt;" in _report(run)


def test_lists_unreadable_images_and_warnings(run):
    rows = "".join(f"{i}\timage{i}.jpg\tcut off\n" for i in range(25))
    (run / "unreadable.tsv").write_text("index\tname\treason\n" + rows)
    results = json.loads((run / "results.json").read_text())
    results["health_warnings"] = ["The embeddings have collapsed."]
    (run / "results.json").write_text(json.dumps(results))
    text = _report(run)
    assert "25 left out of training" in text
    assert "image19.jpg" in text and "image20.jpg" not in text
    assert '<div class="warning">The embeddings have collapsed.</div>' in text


def test_a_loss_that_is_not_finite_is_a_warning(run):
    (run / "metrics.jsonl").write_text('{"epoch": 1, "step": 1, "loss": NaN}\n')
    assert "The loss was not finite" in _report(run)


def test_works_from_results_alone_and_from_metrics_alone(run):
    (run / "metrics.jsonl").rename(run / "kept")
    assert "98.3%" in _report(run)
    (run / "kept").rename(run / "metrics.jsonl")
    (run / "results.json").unlink()
    assert "loss: 6 at 1" in _report(run)


def test_a_directory_without_a_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no run has begun"):
        report.write(str(tmp_path))


def test_a_damaged_file_is_an_error_that_names_it(run):
    (run / "detection/0002.json").write_text("{")
    with pytest.raises(UserError, match=r"0002\.json"):
        report.write(str(run))
