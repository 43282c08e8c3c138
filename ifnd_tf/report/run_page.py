"""The report of one run: what came out, how it got there, and with which settings."""

from typing import NamedTuple

import numpy as np

from ifnd_tf.report import detection_section, html, number_sections, picture_file, picture_sections
from ifnd_tf.report.html import Section, Tile
from ifnd_tf.report.picture_file import Exhibits
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.run.metric_names import describe
from ifnd_tf.run.progress import duration
from ifnd_tf.run.records import RunFiles, read_run

# Thumbnails of fewer pixels a side are enlarged without smoothing.
_SMALL = 32
_FRAMEWORKS = {"moco": "MoCo v2", "simclr": "SimCLR"}
_DETECTORS = {
    "ifnd": "incremental false negative detection",
    "none": "no false negative detection",
    "oracle": "false negatives from true labels",
    "random": "permuted labels (control)",
}


def write(path: str) -> str:
    """Writes report.html into a run directory, from what the directory holds alone.

    Args:
        path: the run directory, local or gs://.

    Returns:
        The page's path. It refers to no other file and needs no network.

    Raises:
        UserError: if the directory holds no run, or cannot be written.
    """
    run, pictures = read_run(path), picture_file.read(path)
    directory = RunDirectory(path, flags={})
    directory.write_text("report.html", render(run, pictures, _last_refresh(run, directory)))
    return directory.file("report.html")


class _Refresh(NamedTuple):
    """Labels and confidence, [L, N], of the last refresh."""

    labels: np.ndarray | None = None
    confidence: np.ndarray | None = None


def _last_refresh(run: RunFiles, directory: RunDirectory) -> _Refresh:
    done = run.metrics[-1]["epoch"] if run.metrics else 0
    latest = directory.latest_detection(before=done)
    return _Refresh() if latest is None else _Refresh(latest[1]["labels"], latest[1]["confidence"])


def render(run: RunFiles, pictures: Exhibits | None, last: _Refresh) -> str:
    """The page as text."""
    found = _sections(run, pictures, last)
    missing = _missing(run, pictures, {section.id for section in found if section.empty})
    shown = [section for section in found if not section.empty or section.id == "settings"]
    if missing:
        shown.append(Section("missing", "Left out", "Not in this report", notes=missing))
    name = run.flags.get("experiment") or run.path.rstrip("/").rsplit("/", 1)[-1]
    return html.render(
        f"{name}: {_method(run)}",
        lead=_lead(run),
        warnings=run.warnings,
        tiles=_tiles(run),
        sections=shown,
    )


def _sections(run: RunFiles, pictures: Exhibits | None, last: _Refresh) -> list[Section]:
    names = detection_section.level_names(run, last.labels)
    clusters = Section(
        "clusters",
        "Clusters",
        "Clusters",
        notes=["Of each cluster, the accepted members whose label is surest and least sure."]
        if pictures
        else [],
        charts=detection_section.cluster_sizes(run, names, *last),
        galleries=picture_sections.clusters(pictures, names) if pictures else [],
    )
    empty = [
        Section("removed", "Removed", "False negatives that were removed"),
        Section("neighbours", "Neighbours", "Nearest neighbours"),
        Section("map", "Map", "Map of the embedding"),
    ]
    return [
        number_sections.results(run),
        number_sections.training(run),
        detection_section.quality_section(run, names),
        clusters,
        *(
            [
                picture_sections.removed(pictures),
                picture_sections.neighbours(pictures),
                picture_sections.embedding(pictures, names, small=_side(pictures) < _SMALL),
            ]
            if pictures
            else empty
        ),
        number_sections.health(run),
        number_sections.cost(run),
        number_sections.unreadable(run),
        number_sections.settings(run),
    ]


def _side(pictures: Exhibits) -> int:
    first = next(iter(pictures.pictures.values()), None)
    return picture_file.decode([first])[0].shape[0] if first else _SMALL


def _missing(run: RunFiles, pictures: Exhibits | None, empty: set[str]) -> list[str]:
    """Says what is left out, and why."""
    why = []
    if "results" in empty:
        why.append(
            "Results: the encoder has not been evaluated. --mode=evaluate,report does that, for "
            "images with labels."
        )
    if "training" in empty:
        why.append("Curves: there is no metrics.jsonl.")
    if "detection" in empty:
        why.append(
            "Detection and clusters: detection/ is empty, because there was no refresh yet or "
            "--detector=none."
        )
    if pictures is None:
        why.append(
            "Pictures of clusters, removed negatives, neighbours and the map: there is no "
            f"{picture_file.FILE}. Training writes it unless --report_examples=0."
        )
    elif "removed" in empty and "detection" not in empty:
        why.append("Removed negatives: at the last look no image was left out.")
    if not run.flags:
        why.append("Settings: there is no config.flags.")
    return why


def _method(run: RunFiles) -> str:
    framework = _FRAMEWORKS.get(run.flags.get("framework", ""), "")
    detector = run.flags.get("detector", "")
    words = _DETECTORS.get(detector, detector)
    return " with ".join(part for part in (framework, words) if part) or "training run"


def _text(run: RunFiles, name: str) -> str:
    return number_sections.result_text(run, name)


def _lead(run: RunFiles) -> list[str]:
    """The run in a few sentences."""
    flags, results = run.flags, run.results
    done = int(run.metrics[-1]["epoch"]) if run.metrics else int(run.result("epochs") or 0)
    planned = run.whole("epochs") or done
    images = f"{_text(run, 'num_examples')} images" if "num_examples" in results else "images"
    data = f" of {flags['dataset']}" if "dataset" in flags else ""
    setting = (
        f"{flags['backbone']} was trained" if "backbone" in flags else "The encoder was trained"
    )
    sentences = [
        f"{setting} on {images}{data} for {done} of {planned} epochs"
        + (f", {flags['batch_size']} images a step" if "batch_size" in flags else "")
        + (f", seed {flags['seed']}" if "seed" in flags else "")
        + "."
    ]
    if done < planned:
        sentences[0] += (
            f" It {run.status['state']}: {run.status['text']}."
            if run.status.get("state") in ("failed", "stopped")
            else " It was still training, or had been killed, when this was written."
        )
    if "knn_top1" in results:
        others = [
            f"{words} {_text(run, name)}"
            for words, name in (
                ("an untrained encoder", "untrained_knn_top1"),
                ("raw pixels", "raw_pixel_knn_top1"),
            )
            if name in results
        ]
        sentences.append(
            f"Its features classify {_text(run, 'knn_top1')} of the test images by their nearest "
            "neighbours" + (f"; {', '.join(others)}." if others else ".")
        )
    sentences += _detection_words(run)
    if run.result("wall_seconds"):
        sentences.append(
            f"It took {duration(run.result('wall_seconds') or 0)} "
            f"({'h:' if (run.result('wall_seconds') or 0) >= 3600 else ''}min:s) in all."
        )
    return sentences


def _detection_words(run: RunFiles) -> list[str]:
    if not run.detection:
        return []
    last = run.detection[-1]
    words = f"At the last of {len(run.detection)} refreshes "
    if "accepted_share" in last:
        words += f"{last['accepted_share']:.0%} of the pseudo-labels were accepted"
    masked = run.values("masked_share")
    if masked:
        words += f" and {masked[-1][1]:.1%} of the negatives left out of the loss"
    precision = last.get("precision")
    if isinstance(precision, int | float):
        words += f"; {precision:.0%} of the detected pairs share a true class"
    return [words + "."]


def _tiles(run: RunFiles) -> list[Tile]:
    names = ("knn_top1", "linear_top1", "detection_precision", "detection_recall")
    tiles = []
    for name in names:
        if run.result(name) is None:
            continue
        beside = [
            f"{_text(run, other)} {words}"
            for words, other in (("untrained", f"untrained_{name}"), ("raw", f"raw_pixel_{name}"))
            if other in run.results
        ]
        tiles.append(Tile(_text(run, name), describe(name).text, ", ".join(beside)))
    if run.result("train_images_per_second"):
        tiles.append(
            Tile(f"{run.result('train_images_per_second'):,.0f}", "training images a second")
        )
    if run.result("wall_seconds"):
        tiles.append(Tile(duration(run.result("wall_seconds") or 0), "wall time"))
    return tiles
