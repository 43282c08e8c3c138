"""`--mode=embed`: a data set's features, clusters and duplicates in files for other programs."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.clustering import kmeans
from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.evaluation.duplicates import find_duplicates, fingerprint
from ifnd_tf.evaluation.embed import LABEL, SEEN, Embedder
from ifnd_tf.models.network import Network
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build, sizes
from ifnd_tf.stages.run import Run


class Table(NamedTuple):
    """One row for each image that was read.

    Attributes:
        path: `[N]` text, the file's path or the example's id.
        split: `[N]` text, train or evaluation.
        label: int32 `[N]`, -1 where unknown.
        features: float32 `[N, F]`.
        embedding: float32 `[N, D]`, of unit length.
        fingerprint: int64 `[N]`, see `duplicates.fingerprint`.
    """

    path: np.ndarray
    split: np.ndarray
    label: np.ndarray
    features: np.ndarray
    embedding: np.ndarray
    fingerprint: np.ndarray


def write_embeddings(run: Run) -> None:
    """Embeds all images of the run, or of `--embed_dataset`, and writes `embeddings/`."""
    write(run, run.embed_splits, run.trained_model().network)


def write(run: Run, splits: Splits, network: Network) -> None:
    """Embeds both parts of a data set and writes `embeddings/` in the run directory."""
    config, directory = run.config, run.directory
    with run.progress.phase("embedding"):
        table = _embedded(run, splits, network)
    if not directory.writer:
        return
    count = config.embed_clusters or min(
        sizes.num_clusters(config, len(table.path)) or [max(2, len(table.path) // 100)]
    )
    with run.progress.phase("clustering"):
        clusters, confidence = _clustered(config, table.embedding, min(count, len(table.path)))
    copies = find_duplicates(
        table.fingerprint, table.features, clusters, config.duplicate_similarity
    )
    tf.io.gfile.makedirs(directory.file("embeddings"))
    _write_table(directory, config.embed_format, table)
    _write_csv(
        directory.file("embeddings", "clusters.csv"),
        ("path", "cluster", "confidence"),
        zip(table.path, clusters, np.round(confidence, 4), strict=True),
    )
    _write_csv(
        directory.file("embeddings", "duplicates.csv"),
        ("path", "duplicate_of", "similarity", "kind"),
        (
            (table.path[i], table.path[j], round(float(s), 4), "exact" if same else "near")
            for i, j, s, same in zip(*copies, strict=True)
        ),
    )
    run.progress.line(
        f"embedded {len(table.path):,} images in {directory.file('embeddings')}: {count} clusters, "
        f"{int(copies.exact.sum())} exact and {int((~copies.exact).sum())} near duplicates"
    )


def _embedded(run: Run, splits: Splits, network: Network) -> Table:
    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**network.inference(images), "fingerprint": fingerprint(images)}

    parts = []
    for name, source in zip(("train", "evaluation"), splits, strict=True):
        if source is not None:
            batches = build.ordered_batches(run.config, run.strategy, source)
            found = Embedder(outputs, run.strategy)(batches, source.num_examples)
            parts.append(_rows(name, source, found))
    return Table(*map(np.concatenate, zip(*parts, strict=True)))


def _rows(name: str, source: Source, found: dict[str, Any]) -> Table:
    seen = np.flatnonzero(found[SEEN])
    return Table(
        np.array([source.describe(int(i)) for i in seen]),
        np.full(len(seen), name),
        *(found[key][seen] for key in (LABEL, "features", "embedding", "fingerprint")),
    )


def _clustered(config: Config, embedding: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster int `[N]` and confidence float `[N]` of every image, largest cluster first."""
    index = tf.range(len(embedding))

    @tf.function
    def cluster(points: tf.Tensor) -> kmeans.KMeansResult:
        start = kmeans.initial_centroids(points, index, num_clusters=count, seed=config.seed)
        return kmeans.kmeans(
            points,
            index,
            start,
            num_iterations=config.kmeans_iterations,
            confidence_temperature=config.confidence_temperature,
        )

    found = cluster(tf.constant(embedding))
    rank = np.argsort(np.argsort(-found.counts.numpy(), kind="stable"), kind="stable")
    return rank[found.assignments.numpy()], found.confidence.numpy()


def _write_table(directory: RunDirectory, form: str, table: Table) -> None:
    columns = table._asdict()
    if form == "npz":
        packed = io.BytesIO()  # the archive's writer seeks, which gs:// files cannot
        np.savez(packed, **columns)
        content = packed.getvalue()
    else:
        import pyarrow
        import pyarrow.parquet

        arrays = {
            name: pyarrow.array(list(value) if value.ndim > 1 else value)
            for name, value in columns.items()
        }
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table(arrays), buffer)
        content = buffer.getvalue().to_pybytes()
    with tf.io.gfile.GFile(directory.file("embeddings", f"embeddings.{form}"), "wb") as file:
        file.write(content)


def _write_csv(path: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text.getvalue())
