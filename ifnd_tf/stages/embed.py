"""`--mode=embed`: a data set's features, clusters and duplicates in files for other programs."""

from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.detection.from_arrays import array_detector
from ifnd_tf.evaluation.diverse import k_center
from ifnd_tf.evaluation.duplicates import Duplicates, find_duplicates, fingerprint, grouped
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.evaluation.odd import oddness
from ifnd_tf.report import embed_page, number_sections
from ifnd_tf.report.collect_pictures import thumbnails
from ifnd_tf.report.html import Section
from ifnd_tf.run.words import counted
from ifnd_tf.stages import build, embed_encoder, embed_files, embed_folders, given_rows, sizes
from ifnd_tf.stages.embed_encoder import EmbedEncoder
from ifnd_tf.stages.run import Run

THUMBNAIL = "thumbnail"
# Side of thumbnails in pixels, 12 kB each; half of it for more images than `_MANY`.
_SIDE, _MANY = 64, 50_000


def write_embeddings(run: Run) -> None:
    """Embeds all images of the run, or of `--embed_dataset`, and writes `embeddings/`."""
    encoder = embed_encoder.choose(run, run.embed_splits)
    if embed_encoder.without_run(run):
        run.directory.claim()  # it holds results of this encoder alone
    write(run, run.embed_splits, encoder)


def write(run: Run, splits: Splits, encoder: EmbedEncoder) -> None:
    """Embeds both parts of a data set and writes `embeddings/` in the run directory."""
    config, directory = run.config, run.directory
    sorting = config.embed_folders != "none"
    if sorting and directory.writer:
        embed_folders.check(config.embed_folders, splits, directory.file(embed_folders.FOLDER))
    with run.progress.phase("embedding"):
        table, rows = _embedded(run, splits, encoder)
    paths = table["path"]
    if not directory.writer:
        return
    count = min(_num_clusters(run, len(paths)), len(paths))
    with run.progress.phase("clustering"):
        clusters, confidence = _clustered(run, table["embedding"], count)
    with run.progress.phase("writing tables"):
        kept = {name: column for name, column in table.items() if name != THUMBNAIL}
        embed_files.write_table(directory, config.embed_format, kept)
        shown = zip(paths, clusters, np.round(confidence, 4), strict=True)
        text = embed_files.table_text(("path", "cluster", "confidence"), shown)
        directory.write("embeddings/clusters.csv", text)
    if sorting:
        with run.progress.phase("sorting files"):
            folder = directory.file(embed_folders.FOLDER)
            embed_folders.write(config.embed_folders, rows, clusters, folder)
    copies = _write_duplicates(run, table, clusters)
    strange = _write_odd(run, table)
    diverse = _write_diverse(run, table) if config.embed_diverse else np.zeros(0, int)
    with run.progress.phase("page"):
        page = embed_page.render(
            f"{config.name}: {counted(len(paths), 'image')}",
            table,
            clusters=clusters,
            confidence=confidence,
            groups=grouped(copies, most=60, shown=6),
            duplicates=copies.counts,
            oddness=strange,
            diverse=diverse,
            data=_data(run, splits),
            class_names=splits.train.class_names,
            seed=config.seed,
        )
    directory.write("embeddings/index.html", page)
    _write_results(run, splits, clusters, copies)
    words = counted(len(paths), "image"), counted(int(clusters.max()) + 1, "cluster")
    run.progress.line(
        f"embedded {words[0]}: {words[1]}, {copies.counts}\n"
        f"{embed_files.what_next(config, directory)}"
    )


def _data(run: Run, splits: Splits) -> Section:
    """Notes on the images that were embedded, and those that were skipped."""
    unreadable = [row for source in filter(None, splits) for row in source.unreadable]
    return number_sections.data([note.text for note in run.notes(splits)], unreadable)


def _write_results(run: Run, splits: Splits, clusters: np.ndarray, copies: Duplicates) -> None:
    """Writes the numbers; where nothing was trained, also the notes on the data."""
    exact = int(copies.exact.sum())
    results: dict[str, Any] = {
        "embedded_images": len(clusters),
        "embedded_clusters": int(clusters.max()) + 1,
        "embedded_exact_duplicates": exact,
        "embedded_near_duplicates": len(copies.exact) - exact,
    }
    if embed_encoder.without_run(run):
        results |= run.unused(splits)
    run.directory.write_results(results)


def _num_clusters(run: Run, count: int) -> int:
    """The number of clusters for `count` images."""
    if run.config.embed_clusters:
        return run.config.embed_clusters
    if embed_encoder.without_run(run):
        return max(2, round((count / 2) ** 0.5))
    return min(sizes.num_clusters(run.config, count) or [max(2, count // 100)])


def _embedded(
    run: Run, splits: Splits, encoder: EmbedEncoder
) -> tuple[dict[str, np.ndarray], list[tuple[Source, np.ndarray]]]:
    """Columns with a row for each image that was read, and the sources of the rows.

    Returns:
        The columns "path": text, the file's path or the example's id; "size": int64, the file's
        bytes, -1 without a file; "split": train or evaluation; "label": int32, -1 where unknown;
        "features" float32 `[N, F]`; "embedding" float32 `[N, D]`, of unit length; "fingerprint":
        int64, see `duplicates.fingerprint`; "thumbnail": uint8 `[N, s, s, 3]`. Then each part's
        source and the indices that were read.
    """
    total = sum(source.num_examples for source in splits if source is not None)
    side = _SIDE if total <= _MANY else _SIDE // 2

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = {"fingerprint": fingerprint(images), THUMBNAIL: thumbnails(images, side)}
        return {**encoder.outputs(images), **seen}

    parts, rows, start = [], [], 0
    for name, source in zip(("train", "evaluation"), splits, strict=True):
        if source is not None:
            batches = build.ordered_batches(
                run.config, run.strategy, source, image_size=encoder.image_size
            )
            count = run.progress.counter(f"embedding {name} images")
            found = Embedder(outputs, run.strategy)(batches, source.num_examples, count)
            seen, end = found.pop(SEEN), start + source.num_examples
            if encoder.rows is not None:
                found["features"] = encoder.rows[start:end]
                seen &= found["features"].any(axis=1)
            seen, start = np.flatnonzero(seen), end
            paths = np.array([source.describe(int(i)) for i in seen])
            columns = {"path": paths, "size": source.sizes[seen], "split": np.full(len(seen), name)}
            parts.append(columns | {key: value[seen] for key, value in found.items()})
            rows.append((source, seen))
    table = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if "embedding" not in table:
        table["embedding"] = table["features"].copy()
        if encoder.rows is None:  # given rows are centred already
            alike = bool(np.all(table["fingerprint"] == table["fingerprint"][0]))
            given_rows.centre(encoder.source, table["embedding"], alike)
    return table, rows


def _clustered(run: Run, embedding: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster int `[N]` and confidence float `[N]` of every image, largest cluster first."""
    detector = array_detector(
        tf.identity,
        embedding,
        width=embedding.shape[1],
        num_clusters=[count],
        confidence_temperature=run.config.confidence_temperature,
        iterations=run.config.kmeans_iterations,
        seed=run.config.seed,
    )
    found = detector.detect(1.0, run.progress.phase)
    counts = np.bincount(found.labels[0], minlength=count)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    return rank[found.labels[0]], found.confidence[0]


def _write_duplicates(run: Run, table: dict[str, np.ndarray], clusters: np.ndarray) -> Duplicates:
    """Writes duplicates.csv."""
    paths, least = table["path"], run.config.duplicate_similarity
    with run.progress.phase("looking for duplicates, cluster") as count:
        copies = find_duplicates(table["fingerprint"], table["features"], clusters, least, count)
    rows = (
        (paths[i], paths[j], round(float(s), 4), "exact" if same else "near")
        for i, j, s, same in zip(*copies, strict=True)
    )
    header = ("path", "duplicate_of", "similarity", "kind")
    run.directory.write("embeddings/duplicates.csv", embed_files.table_text(header, rows))
    return copies


def _write_odd(run: Run, table: dict[str, np.ndarray]) -> np.ndarray:
    """Writes odd.csv, the oddest image first; returns the oddness of each."""
    with run.progress.phase("looking for odd ones, image") as count:
        found = oddness(table["embedding"], run.config.seed, count)
    order = np.argsort(-found, kind="stable")
    rows = zip(table["path"][order], np.round(found[order], 4), strict=True)
    run.directory.write("embeddings/odd.csv", embed_files.table_text(("path", "oddness"), rows))
    return found


def _write_diverse(run: Run, table: dict[str, np.ndarray]) -> np.ndarray:
    """Writes diverse.csv; the first image has no distance. Returns the images in order."""
    most = min(run.config.embed_diverse, len(table["path"]))
    with run.progress.phase("choosing a diverse subset, image") as count:
        chosen, distances = k_center(table["embedding"], most, count)
    shown = ["", *np.round(distances[1:], 4)]
    rows = zip(table["path"][chosen], shown, strict=True)
    run.directory.write(
        "embeddings/diverse.csv", embed_files.table_text(("path", "distance"), rows)
    )
    return chosen
