"""`--mode=embed`: a data set's features, clusters and duplicates in files for other programs."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.source import Source
from ifnd_tf.detection.from_arrays import array_detector
from ifnd_tf.evaluation.diverse import k_center
from ifnd_tf.evaluation.duplicates import find_duplicates, fingerprint
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.models.network import Network
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build, embed_folders, sizes
from ifnd_tf.stages.run import Run


def write_embeddings(run: Run) -> None:
    """Embeds all images of the run, or of `--embed_dataset`, and writes `embeddings/`."""
    write(run, run.embed_splits, run.trained_model().network)


def write(run: Run, splits: Splits, network: Network) -> None:
    """Embeds both parts of a data set and writes `embeddings/` in the run directory."""
    config, directory = run.config, run.directory
    sorting = config.embed_folders != "none"
    if sorting and directory.writer:
        embed_folders.check(config.embed_folders, splits, directory.file(embed_folders.FOLDER))
    with run.progress.phase("embedding"):
        table, rows = _embedded(run, splits, network)
    paths = table["path"]
    if not directory.writer:
        return
    count = config.embed_clusters or min(
        sizes.num_clusters(config, len(paths)) or [max(2, len(paths) // 100)]
    )
    clusters, confidence = _clustered(run, table["embedding"], min(count, len(paths)))
    _write_table(directory, config.embed_format, table)
    table_rows = zip(paths, clusters, np.round(confidence, 4), strict=True)
    directory.write("embeddings/clusters.csv", _csv(("path", "cluster", "confidence"), table_rows))
    if sorting:
        with run.progress.phase("sorting files"):
            folder = directory.file(embed_folders.FOLDER)
            embed_folders.write(config.embed_folders, rows, clusters, folder)
    exact, near = _write_duplicates(run, table, clusters)
    if config.embed_diverse:
        _write_diverse(run, table)
    run.progress.line(
        f"embedded {len(paths):,} images: {clusters.max() + 1} clusters, {exact} exact and {near} "
        "near duplicates\n" + _what_next(config, directory)
    )


def _embedded(
    run: Run, splits: Splits, network: Network
) -> tuple[dict[str, np.ndarray], list[tuple[Source, np.ndarray]]]:
    """Columns with a row for each image that was read, and the sources of the rows.

    Returns:
        The columns "path": text, the file's path or the example's id; "split": train or
        evaluation; "label": int32, -1 where unknown; "features" float32 `[N, F]`; "embedding"
        float32 `[N, D]`, of unit length; "fingerprint": int64, see `duplicates.fingerprint`.
        Then each part's source and the indices that were read.
    """

    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**network.inference(images), "fingerprint": fingerprint(images)}

    parts, rows = [], []
    for name, source in zip(("train", "evaluation"), splits, strict=True):
        if source is not None:
            batches = build.ordered_batches(run.config, run.strategy, source)
            count = run.progress.counter(f"embedding {name} images")
            found = Embedder(outputs, run.strategy)(batches, source.num_examples, count)
            seen = np.flatnonzero(found.pop(SEEN))
            paths = np.array([source.describe(int(i)) for i in seen])
            columns = {"path": paths, "split": np.full(len(seen), name)}
            parts.append(columns | {key: value[seen] for key, value in found.items()})
            rows.append((source, seen))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, rows


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


def _write_duplicates(
    run: Run, table: dict[str, np.ndarray], clusters: np.ndarray
) -> tuple[int, int]:
    """Writes duplicates.csv; returns the number of exact and near ones."""
    paths, least = table["path"], run.config.duplicate_similarity
    copies = find_duplicates(table["fingerprint"], table["features"], clusters, least)
    rows = (
        (paths[i], paths[j], round(float(s), 4), "exact" if same else "near")
        for i, j, s, same in zip(*copies, strict=True)
    )
    header = ("path", "duplicate_of", "similarity", "kind")
    run.directory.write("embeddings/duplicates.csv", _csv(header, rows))
    return int(copies.exact.sum()), int((~copies.exact).sum())


def _write_diverse(run: Run, table: dict[str, np.ndarray]) -> None:
    """Writes diverse.csv; the first image has no distance."""
    count = min(run.config.embed_diverse, len(table["path"]))
    with run.progress.phase("choosing a diverse subset"):
        chosen, distances = k_center(table["embedding"], count)
    shown = ["", *np.round(distances[1:], 4)]
    rows = zip(table["path"][chosen], shown, strict=True)
    run.directory.write("embeddings/diverse.csv", _csv(("path", "distance"), rows))


def _what_next(config: Config, directory: RunDirectory) -> str:
    """The files that were written, a line each, and an example in Python."""
    table, how = f"embeddings.{config.embed_format}", config.embed_folders
    files = {
        table: "path, split, label, features and embedding (of unit length) of every image",
        "clusters.csv": "path, cluster, confidence; the largest cluster is 0",
        "duplicates.csv": "path, the earlier image that it repeats; look before you delete",
    }
    if how != "none":
        files["clusters/NNN/"] = f"a {how} of every image file, a folder for each cluster"
    if config.embed_diverse:
        files["diverse.csv"] = "path, distance to those before it; the first images to label"
    path = directory.file("embeddings", table)
    load = ["import numpy as np", f'table = np.load("{path}")']
    if config.embed_format == "parquet":
        load = [
            "import numpy as np, pyarrow.parquet",
            f'table = pyarrow.parquet.read_table("{path}").to_pydict()',
        ]
    return "\n".join(
        [
            *(f"  {directory.file('embeddings', name)}  {use}" for name, use in files.items()),
            "in Python, the ten images most like the first:",
            *(f"  {line}" for line in load),
            '  path, embedding = np.array(table["path"]), np.array(table["embedding"])',
            "  print(path[np.argsort(-embedding @ embedding[0])[:10]])",
        ]
    )


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
