"""The report of one run: results, curves, pictures, cost and settings."""

import numpy as np

from ifnd_tf.report import detection_section, html, number_sections, picture_sections, pictures
from ifnd_tf.report.html import Section, Tile
from ifnd_tf.report.number_sections import result_text
from ifnd_tf.report.pictures import Pictures
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe, number_text
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import PICTURES, RunRecords, read_run

_FRAMEWORKS = {"moco": "MoCo v2", "simclr": "SimCLR"}
_DETECTORS = {
    "ifnd": "incremental false negative detection",
    "none": "no false negative detection",
    "oracle": "false negatives from true labels",
    "random": "permuted labels (control)",
}
_TILES = (
    "knn_top1", "linear_top1", "detection_precision", "detection_recall",
    "train_images_per_second", "wall_seconds",
)  # fmt: skip
_NAMED = ("batch_size", "seed")
_BASELINES = {"untrained_": "untrained encoder", "raw_pixel_": "raw pixels"}
_NO_PICTURES = Pictures(0, None, 0, "", [], {}, [], [], [], [])


def write(path: str) -> str:
    """Writes report.html into a run directory, from the files of the directory alone.

    Args:
        path: the run directory, local or gs://.

    Returns:
        The page's path. It refers to no other file and needs no network.

    Raises:
        UserError: if the directory holds no run, or cannot be written.
    """
    run, shown = read_run(path), pictures.read(path)
    directory = RunDirectory(path, flags={})
    latest = directory.latest_detection(before=run.metrics[-1]["epoch"] if run.metrics else 0)
    arrays = latest[1] if latest else {"labels": np.zeros([0, 0]), "confidence": np.zeros([0, 0])}
    sections = _sections(run, shown or _NO_PICTURES, arrays["labels"], arrays["confidence"])
    missing = _missing(run, shown, {section.id for section in sections if section.empty})
    sections = [section for section in sections if not section.empty or section.id == "settings"]
    if missing:
        sections.append(Section("Missing", "Not in this report", notes=missing))
    page = html.render(
        _title(run),
        lead=_lead(run),
        warnings=run.warnings,
        tiles=[_tile(run, name) for name in _TILES if run.result(name) is not None],
        sections=sections,
    )
    directory.write("report.html", page)
    return directory.file("report.html")


def _title(run: RunRecords) -> str:
    name = run.flags.get("experiment") or run.path.rstrip("/").rsplit("/", 1)[-1]
    detector = run.flags.get("detector", "")
    method = (_FRAMEWORKS.get(run.flags.get("framework", "")), _DETECTORS.get(detector, detector))
    return f"{name}: {' with '.join(filter(None, method)) or 'training run'}"


def _sections(
    run: RunRecords, shown: Pictures, labels: np.ndarray, confidence: np.ndarray
) -> list[Section]:
    names = detection_section.level_names(run, labels)
    galleries = picture_sections.clusters(shown, names)
    clusters = Section(
        "Clusters",
        "Clusters",
        notes=["The most and least confident accepted images of each cluster."] * bool(galleries),
        charts=detection_section.cluster_sizes(run, names, labels, confidence),
        galleries=galleries,
    )
    return [
        number_sections.results(run),
        number_sections.training(run),
        detection_section.quality_section(run, names),
        clusters,
        picture_sections.removed(shown),
        picture_sections.neighbours(shown),
        picture_sections.embedding(shown, names),
        number_sections.health(run),
        number_sections.cost(run),
        number_sections.unreadable(run),
        number_sections.settings(run),
    ]


def _missing(run: RunRecords, shown: Pictures | None, empty: set[str]) -> list[str]:
    """The parts that are missing, each with its reason."""
    reasons = {
        "Results: the encoder has not been evaluated. --mode=evaluate,report does that, for images "
        "with labels.": "results" in empty,
        "Curves: there is no metrics.jsonl.": "training" in empty,
        "Detection and clusters: detection/ is empty, because there was no refresh yet or "
        "--detector=none.": "detection" in empty,
        "Pictures of clusters, removed negatives, neighbours and the map: there is no "
        f"{PICTURES}. Training writes it unless --report_examples=0.": shown is None,
        "Removed negatives: none were detected when the pictures were collected.": shown is not None
        and "removed" in empty
        and "detection" not in empty,
        "Settings: there is no config.flags.": not run.flags,
    }
    return [reason for reason, applies in reasons.items() if applies]


def _lead(run: RunRecords) -> list[str]:
    """The run in a few sentences."""
    flags, done = run.flags, run.epochs_done
    planned = run.whole("epochs") or done
    images = f"{result_text(run, 'num_examples')} images".strip()
    data = f" of {flags['dataset']}" if "dataset" in flags else ""
    settings = "".join(f", {n.replace('_', ' ')} {flags[n]}" for n in _NAMED if n in flags)
    sentences = [
        f"{flags.get('backbone', 'The encoder')} was trained on {images}{data} for {done} of "
        f"{planned} epochs{settings}."
    ]
    if done < planned:
        sentences[0] += (
            f" It {run.status['state']}: {run.status['text']}."
            if run.status.get("state") in ("failed", "stopped")
            else " It was still training, or had been killed, when this was written."
        )
    if "knn_top1" in run.results:
        baselines = _baselines(run, "knn_top1")
        sentences.append(
            f"kNN on its features classifies {result_text(run, 'knn_top1')} of the test images "
            "correctly" + (f" ({baselines})." if baselines else ".")
        )
    if run.detection:
        shares = (
            (run.refreshes("accepted_share"), ".0%", "of the pseudo-labels are accepted"),
            (run.values("masked_share"), ".1%", "of the negatives are masked"),
            (run.refreshes("precision"), ".0%", "of the detected pairs share a true class"),
        )
        found = [f"{values[-1][1]:{form}} {words}" for values, form, words in shares if values]
        sentences.append(f"After {len(run.detection)} refreshes, {', '.join(found)}.")
    if seconds := run.result("wall_seconds"):
        unit = "h:min:s" if seconds >= 3600 else "min:s"
        sentences.append(f"The run took {duration(seconds)} ({unit}).")
    return sentences


def _tile(run: RunRecords, name: str) -> Tile:
    value, metric = run.result(name) or 0.0, describe(name)
    if name == "wall_seconds":
        return Tile(duration(value), metric.text)
    unit = f",{metric.unit}" if metric.unit else ""
    return Tile(number_text(value, metric.percent), metric.text + unit, _baselines(run, name))


def _baselines(run: RunRecords, name: str) -> str:
    """The baselines' values of a result, in words; empty where there are none."""
    return ", ".join(
        f"{words} {result_text(run, prefix + name)}"
        for prefix, words in _BASELINES.items()
        if prefix + name in run.results
    )
