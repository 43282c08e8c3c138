"""Run directories for tests of the report, made without training."""

import json
import pathlib

import numpy as np

from ifnd_tf.report import embedding_map, picture_choice, pictures
from ifnd_tf.report.pictures import Pictures, Point, Thumbnail
from ifnd_tf.run.records import PICTURES

# A name that breaks out of HTML, of a script and of a table of tabs, if it is let.
EVIL = '<img src=x onerror="window.broken=1">\t</script><script>window.broken=1</script>.jpg'


def write_records(path: pathlib.Path, *, refreshes=(1, 2), clusters=(5, 7), epochs=3) -> None:
    """config.flags, metrics.jsonl, results.json and detection/*.json."""
    metrics = [
        {"epoch": e, "step": 11 * e, "loss": 7.0 - e, "images_per_second": 900.0}
        | ({"online_knn_top1": 0.9, "masked_share": 0.01 * e} if e > 1 else {})
        for e in range(1, epochs + 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in metrics))
    results = {
        "knn_top1": 0.9831, "raw_pixel_knn_top1": 0.9712, "untrained_knn_top1": 0.5,
        "linear_10pct_top1": 0.87, "linear_10pct_top1_std": 0.01, "wall_seconds": 84.5,
        "num_examples": 1438, "health_embedding_std": 0.97,
    }  # fmt: skip
    (path / "results.json").write_text(json.dumps(results))
    flags = ["# ifnd_tf 9.9, Python 3.11", "--experiment=tiny", "--detector=ifnd",
             "--framework=moco", "--treatment=a=b<c>", f"--epochs={epochs}"]  # fmt: skip
    (path / "config.flags").write_text("\n".join(flags) + "\n")
    (path / "detection").mkdir()
    for epoch in refreshes:
        statistics = {
            "epoch": epoch, "clusters": list(clusters), "acceptance_rate": 0.5,
            "accepted_share": 0.5, "precision": 0.4, "largest_cluster": [9] * len(clusters),
            "level_precision": [0.5, 0.25 * epoch][: len(clusters)],
        }  # fmt: skip
        (path / f"detection/{epoch:04d}.json").write_text(json.dumps(statistics))


def write_pictures(
    path: pathlib.Path, *, num_examples=400, num_clusters=(5, 7), classes=4, labelled=True, side=16
) -> Pictures:
    """detection/0002.npz and report/pictures.json of random images and embeddings."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, num_examples) if labelled else np.full(num_examples, -1)
    labels = np.stack([rng.integers(-1, k, num_examples) for k in num_clusters]).astype(np.int32)
    confidence = rng.random(labels.shape).astype(np.float16)
    np.savez(path / "detection" / "0002.npz", labels=labels, confidence=confidence)
    levels = [
        picture_choice.clusters(*level, truth, most=24, members=6)
        for level in zip(labels, confidence, strict=True)
    ]
    removed = picture_choice.removed(labels, truth, anchors=4, shown=5, seed=0)
    embedding = rng.normal(size=(min(300, num_examples), 8)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    sample = np.arange(len(embedding))
    near = picture_choice.neighbours(embedding, sample, queries=4, nearest=5, seed=0)
    places, projection = embedding_map.project(embedding, quick=True, seed=0)
    shown = set(sample.tolist())
    shown |= {i for level in levels for c in level for i in (*c.most, *c.least)}
    shown |= {i for each in removed for i in (each.anchor, *each.shown)}
    gathered = Pictures(
        epoch=3,
        refresh=2,
        searched=len(sample),
        projection=projection,
        class_names=["<b>cat</b>", "dog", "emu", "fox"][:classes] if labelled else [],
        pictures={
            i: Thumbnail(
                EVIL if i == 0 else f"a/{i}.jpg",
                int(truth[i]),
                pictures.encode(rng.integers(0, 256, (side, side, 3), np.uint8)),
            )
            for i in sorted(shown)
        },
        clusters=levels,
        removed=removed,
        neighbours=near,
        map=[
            Point(int(i), float(x), float(y), labels[:, i].tolist())
            for i, (x, y) in zip(sample, places, strict=True)
        ],
    )
    (path / "report").mkdir()
    (path / PICTURES).write_text(gathered.to_json())
    return gathered
