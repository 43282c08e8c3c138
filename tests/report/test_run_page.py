"""The report is one file that says what the run's records say."""

import json
import re
from html.parser import HTMLParser

import pytest

from ifnd_tf.errors import UserError
from ifnd_tf.report import run_page
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.records import PICTURES, read_run
from tests.report import runs


@pytest.fixture
def run(tmp_path):
    """A run directory of three epochs and two refreshes."""
    runs.write_records(tmp_path)
    return tmp_path


class Checker(HTMLParser):
    """Fails on a tag that is closed out of turn; gathers text, links and tags."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def written(run):
    path = run_page.write(str(run))
    assert path == f"{run}/report.html"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    # Self-contained: places in the page, and pictures inside it.
    assert all(link.startswith(("#", "data:image/webp")) for link in checker.links)
    assert "url(http" not in text and "default-src 'none'" in text
    checker.words = " ".join(" ".join(checker.text).split())
    return checker


def test_says_what_the_records_say(run):
    words = written(run).words
    assert "tiny: MoCo v2 with incremental false negative detection" in words
    assert "was trained on 1,438 images for 3 of 3 epochs" in words
    assert "kNN accuracy 98.3% (raw pixels 97.1%, an untrained network 50.0%)" in words  # verdict
    assert "untrained encoder 50.0%, raw pixels 97.1%" in words
    assert "kNN accuracy 98.3% 50.0% 97.1%" in words  # the table
    assert "linear probe accuracy, 10% of the labels 87.0% ± 1.0%" in words
    assert "After 2 refreshes, 50% of the pseudo-labels are accepted" in words
    assert "The run took 1:24" in words
    assert "Run with ifnd_tf 9.9, Python 3.11." in words


def test_the_numbers_of_every_curve_are_there_as_text(run):
    page = written(run)
    charts = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert any(label.startswith("Contrastive loss. loss: 6 at 1, 4 at 3") for label in charts)
    assert any("K = 7: 25.0% at 1, 50.0% at 2" in label for label in charts)
    assert "epoch K = 5 K = 7 1 50.0% 25.0% 2 50.0% 50.0%" in page.words


def test_a_teacher_s_note_is_told(run):
    flags = (run / "config.flags").read_text()
    note = "--teacher_note=trained <with> labels\n"
    (run / "config.flags").write_text(f"{flags}--detect_with=rows.npz\n{note}")
    words = written(run).words
    assert "the embeddings of rows.npz: trained <with> labels." in words
    assert "labels were used to train" in words
    (run / "config.flags").write_text(f"{flags}--detect_with=encoder\n{note}")
    assert "labels were used to train" not in written(run).words


def test_flags_are_escaped(run):
    assert "--treatment a=b<c>" in written(run).words


@pytest.mark.parametrize("labelled", [True, False])
def test_galleries_show_the_pictures(run, labelled):
    gathered = runs.write_pictures(run, labelled=labelled)
    page = written(run)
    pictures = [a for tag, a in page.tags if tag == "img"]
    wanted = sum(len(c.most) + len(c.least) for level in gathered.clusters for c in level)
    wanted += sum(1 + len(each.shown) for each in gathered.removed)
    wanted += sum(1 + len(each.nearest) for each in gathered.neighbours)
    assert len(pictures) == wanted and all(a["alt"] for a in pictures)
    marks = [a["class"] for tag, a in page.tags if tag == "span" and "picture " in str(a)]
    assert bool(marks) == labelled
    assert ("not marked" in page.words) != labelled
    assert ("the query's class" in page.words) == labelled
    right = [
        gathered.pictures[i].label == gathered.pictures[each.anchor].label
        for each in gathered.removed
        for i in each.shown
    ]
    if labelled:
        said = [a["alt"].endswith("same class") for a in pictures]
        assert said.count(True) >= right.count(True) > 0


def test_names_of_files_and_classes_do_nothing(run):
    runs.write_pictures(run)
    page = written(run)
    assert not [a for tag, a in page.tags if "onerror" in a]
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2  # the map's data, and ours
    assert any(runs.EVIL in a.get("alt", "") for tag, a in page.tags if tag == "img")
    data = re.search(r'id="map-data">(.*?)</script>', (run / "report.html").read_text(), re.S)
    assert runs.EVIL in json.loads(data[1])["points"][0][1]


@pytest.mark.slow
def test_thousands_of_clusters_stay_readable(run):
    runs.write_pictures(run, num_examples=30_000, num_clusters=(10_000,), classes=2)
    page = written(run)
    assert "24 clusters, largest first" in page.words
    assert len((run / "report.html").read_bytes()) < 15e6


def test_lists_unreadable_images_and_warnings(run):
    rows = "".join(f"{i}\timage{i}.jpg\tcut off\n" for i in range(25))
    (run / "unreadable.tsv").write_text("index\tname\treason\n" + rows)
    results = json.loads((run / "results.json").read_text())
    results["health_warnings"] = ["The embeddings have collapsed."]
    results["training_warnings"] = ["epoch 2: Little is left to learn from."]
    (run / "results.json").write_text(json.dumps(results))
    words = written(run).words
    assert "25 unreadable images, skipped" in words
    assert "image19.jpg" in words and "image20.jpg" not in words
    assert words.count("The embeddings have collapsed.") == 1  # in the verdict
    assert "Warning: epoch 2: Little is left to learn from." in words


def test_opens_with_the_verdict_that_watch_and_terminal_give(run):
    page, verdict = written(run), judge(read_run(str(run)))
    assert page.words.index("Verdict") < page.words.index("was trained on")
    for each in verdict.judgements:
        assert f"{each.question[0].upper()}{each.question[1:]}: {each.answer}" in page.words
        assert each.reason in page.words or each.reason.capitalize() in page.words
    assert len(verdict.judgements) == 4 and verdict.steps
    assert all(step.command in page.words for step in verdict.steps)


def test_notes_on_the_data_are_shown(run):
    results = json.loads((run / "results.json").read_text())
    note = {"kind": "other_files", "number": 3, "text": "3 files are no images: <b>.txt."}
    (run / "results.json").write_text(json.dumps({**results, "data_notes": [note]}))
    assert note["text"] in written(run).words


def test_nothing_is_drawn_twice_nor_named_as_in_a_file(run):
    records = (run / "metrics.jsonl").read_text().splitlines()
    names = ("health_alignment", "health_embedding_std", "health_effective_rank", "embedding_std",
             "health_uniformity", "positive_similarity", "detection_precision")  # fmt: skip
    lines = [json.dumps({**json.loads(line), **dict.fromkeys(names, 0.5)}) for line in records]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page = written(run)
    titles = [a["aria-label"].split(".")[0] for tag, a in page.tags if tag == "svg"]
    assert len(titles) == len(set(titles))
    before_settings = page.words[: page.words.index("Settings and versions")]
    assert not re.search(r"health_|detection_|embedding_std", before_settings)


def test_what_was_not_measured_is_a_dash(run):
    results = json.loads((run / "results.json").read_text())
    results |= {"detection_precision": None, "detection_chance_precision": 0.1}
    (run / "results.json").write_text(json.dumps(results))
    assert "detection: precision of pairs - " in written(run).words


def test_thirty_classes_have_a_legend(run):
    runs.write_pictures(run, classes=30)
    page = written(run)
    start = page.words.index("Colour by")
    legend = page.words[start:]
    assert all(f"class {number}" in legend for number in range(4, 30))


def test_a_loss_that_is_not_finite_is_a_warning(run):
    (run / "metrics.jsonl").write_text('{"epoch": 1, "step": 1, "loss": NaN}\n')
    assert "The loss was not finite" in written(run).words


def test_a_run_that_stopped_half_way_says_so(run):
    (run / "results.json").unlink()
    flags = (run / "config.flags").read_text().replace("--epochs=3", "--epochs=50")
    (run / "config.flags").write_text(flags)
    words = written(run).words
    assert "3 of 50 epochs" in words and "still training" in words
    assert "Results: the encoder has not been evaluated" in words
    (run / "status.json").write_text('{"state": "failed", "text": "out of memory"}')
    assert "It failed: out of memory." in written(run).words


def test_other_runners_directories_are_reported_with_what_they_have(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 6.0}\n{"epoch": 2, "loss": 5}\n')
    (tmp_path / "results.json").write_text('{"knn_top1": 0.5, "note": "mine"}')
    page = written(tmp_path)
    assert "50.0%" in page.words
    for left_out in ("Detection and clusters:", "Pictures of clusters", "Settings:"):
        assert left_out in page.words, left_out
    assert [a["id"] for tag, a in page.tags if tag == "section"] == [
        "verdict", "results", "training", "settings", "missing"
    ]  # fmt: skip


def test_works_from_results_alone_and_from_metrics_alone(run):
    (run / "metrics.jsonl").rename(run / "kept")
    page = written(run)
    assert "98.3%" in page.words and "Curves: there is no metrics.jsonl." in page.words
    (run / "kept").rename(run / "metrics.jsonl")
    (run / "results.json").unlink()
    assert "Contrastive loss" in written(run).words


def test_a_directory_without_a_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no run has begun"):
        run_page.write(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["detection/0002.json", PICTURES])
def test_a_damaged_file_is_an_error_that_names_it(run, name):
    runs.write_pictures(run)
    (run / name).write_text("{")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        run_page.write(str(run))


def test_of_an_encoder_from_elsewhere_only_what_was_done_is_shown(tmp_path):
    flags = ["--mode=embed,report", "--saved_model=theirs", "--dataset=folder:photos",
             "--detector=ifnd", "--epochs=80", "--backbone=resnet_small"]  # fmt: skip
    (tmp_path / "config.flags").write_text("\n".join(flags) + "\n")
    note = {"kind": "no_row", "number": 2, "text": "2 images without a row"}
    results = {"embedded_images": 40, "embedded_clusters": 4, "embedded_near_duplicates": 1,
               "raw_pixel_knn_top1": 0.5, "knn_top1": 0.75, "data_notes": [note],
               "num_evaluation_examples": 40}  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = written(tmp_path)
    said = page.words[: page.words.index("Settings and versions")]
    assert "were evaluated and embedded by --saved_model=theirs . Nothing was trained." in said
    assert "encoder raw pixels kNN accuracy 75.0% 50.0%" in said
    assert "images 40" in said and "near duplicates 1" in said and note["text"] in said
    for word in ("epoch", "resnet", "long enough", "trained on", "untrained", "MoCo"):
        assert word not in said, word
    ids = [a.get("id") for tag, a in page.tags if tag == "section"]
    assert ids == ["verdict", "results", "data", "settings"]
