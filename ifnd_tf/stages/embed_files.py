"""The files that `--mode=embed` writes, as text and bytes, and what they are good for."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from ifnd_tf.config import Config
from ifnd_tf.run.directory import RunDirectory


def what_next(config: Config, directory: RunDirectory) -> str:
    """The files that were written, a line each, and an example in Python."""
    table, how = f"embeddings.{config.embed_format}", config.embed_folders
    files = {
        "index.html": "clusters, map, duplicates and odd ones out, to look at in a browser",
        table: "path, size, split, label, features and embedding (of unit length) of every image",
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


def write_table(directory: RunDirectory, form: str, table: dict[str, np.ndarray]) -> None:
    """Writes the columns as embeddings.npz or embeddings.parquet."""
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


def table_text(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Comma-separated lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
