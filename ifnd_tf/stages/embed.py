"""`--mode=embed`: a data set's features, clusters and duplicates in files for other programs."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.data.datasets import Splits
from ifnd_tf.detection.from_arrays import array_detector
from ifnd_tf.evaluation.duplicates import find_duplicates, fingerprint
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.models.network import Network
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build, sizes
from ifnd_tf.stages.run import Run


def write_embeddings(run: Run) -> None:
    """Embeds all images of the run, or of `--embed_dataset`, and writes `embeddings/`."""
    write(run, run.embed_splits, run.trained_model().network)


def write(run: Run, splits: Splits, network: Network) -> None:
    """Embeds both parts of a data set and writes `embeddings/` in the run directory."""
    config, directory = run.config, run.directory
    with run.progress.phase("embedding"):
        table = _embedded(run, splits, network)
    paths = table["path"]
    if not directory.writer:
        return
    count = config.embed_clusters or min(
        sizes.num_clusters(config, len(paths)) or [max(2, len(paths) // 100)]
    )
    clusters, confidence = _clustered(run, table["embedding"], min(count, len(paths)))
    copies = find_duplicates(
        table["fingerprint"], table["features"], clusters, config.duplicate_similarity
    )
    _write_table(directory, config.embed_format, table)
    rows: Iterable[Sequence] = zip(paths, clusters, np.round(confidence, 4), strict=True)
    directory.write("embeddings/clusters.csv", _csv(("path", "cluster", "confidence"), rows))
    rows = (
        (paths[i], paths[j], round(float(s), 4), "exact" if same else "near")
        for i, j, s, same in zip(*copies, strict=True)
    )
    header = ("path", "duplicate_of", "similarity", "kind")
    directory.write("embeddings/duplicates.csv", _csv(header, rows))
    run.progress.line(
        f"embedded {len(paths):,} images in {directory.file('embeddings')}: {count} clusters, "
        f"{int(copies.exact.sum())} exact and {int((~copies.exact).sum())} near duplicates"
    )


def _embedded(run: Run, splits: Splits, network: Network) -> dict[str, np.ndarray]:
    """Columns with a row for each image that was read.

    Returns:
        "path": text, the file's path or the example's id; "split": train or evaluation; "label":
        int32, -1 where unknown; "features" float32 `[N, F]`; "embedding" float32 `[N, D]`, of unit
        length; "fingerprint": int64, see `duplicates.fingerprint`.
    """

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**network.inference(images), "fingerprint": fingerprint(images)}

    parts = []
    for name, source in zip(("train", "evaluation"), splits, strict=True):
        if source is not None:
            batches = build.ordered_batches(run.config, run.strategy, source)
            count = run.progress.counter(f"embedding {name} images")
            found = Embedder(outputs, run.strategy)(batches, source.num_examples, count)
            seen = np.flatnonzero(found.pop(SEEN))
            paths = np.array([source.describe(int(i)) for i in seen])
            columns = {"path": paths, "split": np.full(len(seen), name)}
            parts.append(columns | {key: value[seen] for key, value in found.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


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


def _write_table(directory: RunDirectory, form: str, table: dict[str, np.ndarray]) -> None:
    if form == "npz":
        packed = io.BytesIO()  # the archive's writer seeks, which gs:// files cannot
        np.savez(packed, **table)  # type: ignore[arg-type]
        content = packed.getvalue()
    else:
        import pyarrow
        import pyarrow.parquet

        arrays = {
            name: pyarrow.array(list(value) if value.ndim > 1 else value)
            for name, value in table.items()
        }
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table(arrays), buffer)
        content = buffer.getvalue().to_pybytes()
    directory.write(f"embeddings/embeddings.{form}", content)


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
