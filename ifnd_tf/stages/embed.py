"""`--mode=embed`: a data set's features, clusters and duplicates in files for other programs."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.config import Config
from ifnd_tf.data.datasets import Splits
from ifnd_tf.data.embedding_file import centred
from ifnd_tf.data.source import Source
from ifnd_tf.detection.from_arrays import array_detector
from ifnd_tf.evaluation.diverse import k_center
from ifnd_tf.evaluation.duplicates import Duplicates, find_duplicates, fingerprint, grouped
from ifnd_tf.evaluation.embed import SEEN, Embedder
from ifnd_tf.evaluation.odd import oddness
from ifnd_tf.report import embed_page
from ifnd_tf.report.collect_pictures import thumbnails
from ifnd_tf.run.directory import RunDirectory
from ifnd_tf.stages import build, embed_encoder, embed_folders, sizes
from ifnd_tf.stages.embed_encoder import EmbedEncoder
from ifnd_tf.stages.run import Run

THUMBNAIL = "thumbnail"
# Side of thumbnails in pixels; half of it for more images than whose 12 kB each are no burden.
_SIDE, _MANY = 64, 50_000


def write_embeddings(run: Run) -> None:
    """Embeds all images of the run, or of `--embed_dataset`, and writes `embeddings/`."""
    encoder = embed_encoder.choose(run, run.embed_splits)
    if embed_encoder.without_run(run):
        run.directory.claim()  # what is in it is this encoder's alone
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
    kept = {name: column for name, column in table.items() if name != THUMBNAIL}
    _write_table(directory, config.embed_format, kept)
    table_rows = zip(paths, clusters, np.round(confidence, 4), strict=True)
    directory.write("embeddings/clusters.csv", _csv(("path", "cluster", "confidence"), table_rows))
    if sorting:
        with run.progress.phase("sorting files"):
            folder = directory.file(embed_folders.FOLDER)
            embed_folders.write(config.embed_folders, rows, clusters, folder)
    copies = _write_duplicates(run, table, clusters)
    strange = _write_odd(run, table)
    diverse = _write_diverse(run, table) if config.embed_diverse else np.zeros(0, int)
    exact = int(copies.exact.sum())
    near = len(copies.exact) - exact
    with run.progress.phase("page"):
        page = embed_page.render(
            f"{config.name}: {len(paths):,} images",
            table,
            clusters=clusters,
            confidence=confidence,
            groups=grouped(copies, most=60, shown=6),
            duplicates=(exact, near),
            oddness=strange,
            diverse=diverse,
            class_names=splits.train.class_names,
            seed=config.seed,
        )
    directory.write("embeddings/index.html", page)
    run.progress.line(
        f"embedded {len(paths):,} images: {clusters.max() + 1} clusters, {exact} exact and {near} "
        "near duplicates\n" + _what_next(config, directory)
    )


def _num_clusters(run: Run, count: int) -> int:
    """Clusters of so many images."""
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
        The columns "path": text, the file's path or the example's id; "split": train or
        evaluation; "label": int32, -1 where unknown; "features" float32 `[N, F]`; "embedding"
        float32 `[N, D]`, of unit length; "fingerprint": int64, see `duplicates.fingerprint`;
        "thumbnail": uint8 `[N, s, s, 3]`. Then each part's source and the indices that were read.
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
            columns = {"path": paths, "split": np.full(len(seen), name)}
            parts.append(columns | {key: value[seen] for key, value in found.items()})
            rows.append((source, seen))
    table = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if "embedding" not in table:
        table["embedding"] = table["features"].copy()
        if encoder.rows is None:  # those are centred already
            centred(table["embedding"])
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
    copies = find_duplicates(table["fingerprint"], table["features"], clusters, least)
    rows = (
        (paths[i], paths[j], round(float(s), 4), "exact" if same else "near")
        for i, j, s, same in zip(*copies, strict=True)
    )
    header = ("path", "duplicate_of", "similarity", "kind")
    run.directory.write("embeddings/duplicates.csv", _csv(header, rows))
    return copies


def _write_odd(run: Run, table: dict[str, np.ndarray]) -> np.ndarray:
    """Writes odd.csv, the oddest image first; returns the oddness of each."""
    with run.progress.phase("looking for odd ones"):
        found = oddness(table["embedding"], run.config.seed)
    order = np.argsort(-found, kind="stable")
    rows = zip(table["path"][order], np.round(found[order], 4), strict=True)
    run.directory.write("embeddings/odd.csv", _csv(("path", "oddness"), rows))
    return found


def _write_diverse(run: Run, table: dict[str, np.ndarray]) -> np.ndarray:
    """Writes diverse.csv; the first image has no distance. Returns the images in order."""
    count = min(run.config.embed_diverse, len(table["path"]))
    with run.progress.phase("choosing a diverse subset"):
        chosen, distances = k_center(table["embedding"], count)
    shown = ["", *np.round(distances[1:], 4)]
    rows = zip(table["path"][chosen], shown, strict=True)
    run.directory.write("embeddings/diverse.csv", _csv(("path", "distance"), rows))
    return chosen


def _what_next(config: Config, directory: RunDirectory) -> str:
    """The files that were written, a line each, and an example in Python."""
    table, how = f"embeddings.{config.embed_format}", config.embed_folders
    files = {
        "index.html": "clusters, map, duplicates and odd ones out, to look at in a browser",
        table: "path, split, label, features and embedding (of unit length) of every image",
        "clusters.csv": "path, cluster, confidence; the largest cluster is 0",
        "duplicates.csv": "path, the earlier image that it repeats; look before you delete",
        "odd.csv": "path, oddness; the images least like any others first",
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
