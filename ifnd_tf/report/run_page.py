"""The report of one run: results, curves, pictures, cost and settings."""

from collections.abc import Sequence

import numpy as np

from ifnd_tf.report import detection_section, html, number_sections, picture_sections, pictures
from ifnd_tf.report.html import Section
from ifnd_tf.report.number_sections import result_text
from ifnd_tf.report.pictures import Pictures
from ifnd_tf.report.verdict import judge
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe, number_text, of_fewest_labels
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunRecords, read_run
from ifnd_tf.run.words import DETECTORS

_FRAMEWORKS = {"moco": "MoCo v2", "simclr": "SimCLR"}
_TILES = (
    "cluster_nmi", "linear_top1", "knn_top1", "detection_precision",
    "detection_recall", "train_images_per_second", "wall_seconds",
)  # fmt: skip
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
    names = detection_section.level_names(run, arrays["labels"])
    page = html.render(
        "run.html",
        title=_title(run),
        run=run,
        sections=_sections(run, shown or _NO_PICTURES, names, **arrays),
        pictures=shown,
        points=picture_sections.map_points(shown, names) if shown else [],
        verdict=judge(run),
        done=_done(run),
        tiles=(*of_fewest_labels("linear_*_top1", run.results)[:1], *_TILES),
        describe=describe,
        duration=duration,
        number_text=number_text,
        result_text=result_text,
    )
    directory.write("report.html", page)
    return directory.file("report.html")


def _title(run: RunRecords) -> str:
    name = run.flags.get("experiment") or run.path.rstrip("/").rsplit("/", 1)[-1]
    if run.given_encoder:
        return f"{name}: images {_done(run)} by another encoder"
    detector = run.flags.get("detector", "")
    method = (_FRAMEWORKS.get(run.flags.get("framework", "")), DETECTORS.get(detector, detector))
    return f"{name}: {' with '.join(filter(None, method)) or 'training run'}"


def _done(run: RunRecords) -> str:
    """What was done to the images of a directory in which nothing was trained."""
    words = {"num_evaluation_examples": "evaluated", "embedded_images": "embedded"}
    found = [word for name, word in words.items() if name in run.results]
    return " and ".join(found) or "not embedded yet"


def _sections(
    run: RunRecords,
    shown: Pictures,
    names: Sequence[str],
    *,
    labels: np.ndarray,
    confidence: np.ndarray,
) -> list[Section]:
    """The sections with something to show, and the settings."""
    sections = [
        number_sections.results(run),
        number_sections.training(run),
        detection_section.quality_section(run, names),
        Section(
            "Clusters",
            "Clusters",
            charts=detection_section.cluster_sizes(run, names, labels, confidence),
            pictures=list(zip(names, shown.clusters, strict=False)),
        ),
        picture_sections.removed(shown),
        picture_sections.neighbours(shown),
        picture_sections.embedding(shown, names),
        number_sections.health(run),
        number_sections.cost(run),
        number_sections.data_of(run),
        number_sections.settings(run),
    ]
    return [section for section in sections if not section.empty or section.id == "settings"]
