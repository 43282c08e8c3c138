"""The page of `--mode=embed`: clusters, map, duplicates and odd ones out of a data set."""

from collections.abc import Mapping, Sequence

import numpy as np

from ifnd_tf.report import embedding_map, html, picture_choice, picture_sections, pictures
from ifnd_tf.report.html import Section
from ifnd_tf.report.pictures import Pictures, Point, Thumbnail

# Bounds of a page of some megabytes, whatever the data set.
_CLUSTERS, _MEMBERS = 72, 6
_MAPPED = 2000
_FEWEST_MAPPED = 20  # fewer are no crowd to find one's way in
_ODD, _DIVERSE = 48, 48


def render(
    title: str,
    table: Mapping[str, np.ndarray],
    *,
    clusters: np.ndarray,
    confidence: np.ndarray,
    groups: Sequence[tuple[int, list[int], str]],
    duplicates: str,
    oddness: np.ndarray,
    diverse: np.ndarray,
    data: Section,
    class_names: Sequence[str],
    seed: int,
) -> str:
    """The page as HTML, which refers to no other file.

    Args:
        title: of the page.
        table: columns of all images: "path", "label", "embedding" and "thumbnail" uint8
            `[N, s, s, 3]`.
        clusters, confidence: of each image, `[N]`.
        groups: an image, some of its duplicates, and in words how they repeat it.
        duplicates: the numbers of exact and near duplicates, in words.
        oddness: float `[N]`, see `evaluation.odd`.
        diverse: int, images of a diverse subset in order; empty without one.
        data: notes on the images, and those that were skipped.
        class_names: the classes, by label.
        seed: of the images on the map.
    """
    repeated = {int(i) for original, repeats, _ in groups for i in (original, *repeats)}
    odd = np.argsort(-oddness, kind="stable")[:_ODD].tolist()
    first = diverse[:_DIVERSE].tolist()
    found = _pictures(table, clusters, confidence, {*repeated, *odd, *first}, class_names, seed)
    names = [f"K = {len(np.unique(clusters))}"]
    sections = [
        Section("Clusters", "Clusters", pictures=list(zip(names, found.clusters, strict=True))),
        picture_sections.embedding(found, names),
        Section("Duplicates", "Exact and near duplicates", pictures=list(groups)),
        Section("Odd", "Odd ones out", pictures=odd),
        Section("Diverse", "A diverse subset", pictures=first),
        data,
    ]
    return html.render(
        "embed.html",
        title=title,
        sections=[section for section in sections if not section.empty],
        pictures=found,
        points=picture_sections.map_points(found, names),
        duplicates=duplicates,
    )


def _pictures(
    table: Mapping[str, np.ndarray],
    clusters: np.ndarray,
    confidence: np.ndarray,
    others: set[int],
    class_names: Sequence[str],
    seed: int,
) -> Pictures:
    """Clusters and map, with the thumbnails of their images and of the others."""
    chosen = picture_choice.clusters(
        clusters, confidence, table["label"], most=_CLUSTERS, members=_MEMBERS
    )
    most = _MAPPED if len(clusters) >= _FEWEST_MAPPED else 0
    mapped = np.random.default_rng(seed).permutation(len(clusters))[:most]
    places, projection = embedding_map.project(table["embedding"][mapped], quick=False, seed=seed)
    members = {i for cluster in chosen for i in (*cluster.most, *cluster.least)}
    shown = sorted({*others, *members, *mapped.tolist()})
    return Pictures(
        epoch=0,
        refresh=None,
        searched=len(clusters),
        projection=projection,
        class_names=list(class_names),
        pictures={index: _thumbnail(table, index) for index in shown},
        clusters=[chosen],
        removed=[],
        neighbours=[],
        map=[
            Point(int(i), round(float(x), 3), round(float(y), 3), [int(clusters[i])])
            for i, (x, y) in zip(mapped, places, strict=True)
        ],
    )


def _thumbnail(table: Mapping[str, np.ndarray], index: int) -> Thumbnail:
    # The last folder often says where a photo is from; those above it are the machine's own.
    name = "/".join(str(table["path"][index]).split("/")[-2:])
    pixels = pictures.encode(table["thumbnail"][index].astype(np.uint8))
    return Thumbnail(name, int(table["label"][index]), pixels)
