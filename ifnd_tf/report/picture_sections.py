"""The report's sections of pictures: clusters, removed negatives, neighbours, the map."""

from collections.abc import Sequence

from ifnd_tf.report import embedding_map
from ifnd_tf.report.html import Gallery, Group, Image, Map, Row, Section
from ifnd_tf.report.pictures import Cluster, Pictures


def clusters(pictures: Pictures, names: Sequence[str]) -> list[Gallery]:
    """One gallery per level.

    Args:
        pictures: the run's pictures.
        names: of the levels.
    """
    galleries = []
    for name, level in zip(names, pictures.clusters, strict=False):
        title = f"{name}: {len(level)} clusters, largest first"
        galleries.append(Gallery(title, [_cluster(pictures, cluster) for cluster in level]))
    return galleries


def _cluster(pictures: Pictures, cluster: Cluster) -> Row:
    detail = f"{cluster.size:,} images"
    if cluster.share is not None:
        detail += f", {cluster.share:.0%} of them {pictures.class_name(cluster.label)}"
    groups = [
        Group("most confident", _images(pictures, cluster.most)),
        Group("least confident", _images(pictures, cluster.least)),
    ]
    return Row(f"Cluster {cluster.number}", detail, groups)


def _images(pictures: Pictures, indices: Sequence[int], anchor: int | None = None) -> list[Image]:
    """The thumbnails of images that have one, marked right or wrong beside an anchor."""
    own = pictures.pictures.get(str(anchor))
    found = []
    for index in indices:
        picture = pictures.pictures.get(str(index))
        if picture is None:
            continue
        words, mark = [pictures.class_name(picture.label), picture.name], ""
        if own is not None and min(own.label, picture.label) >= 0:
            mark = "right" if own.label == picture.label else "wrong"
            words.append("same class" if mark == "right" else "another class")
        found.append(Image(picture.webp, ", ".join(filter(None, words)), mark))
    return found


def _row(
    pictures: Pictures, kind: str, own: int, others: str, indices: Sequence[int], detail: str
) -> Row:
    """An image beside others, titled by its class; without groups where it has no thumbnail."""
    picture = pictures.pictures.get(str(own))
    title = pictures.class_name(picture.label) if picture else ""
    groups = [
        Group(kind, _images(pictures, [own])),
        Group(others, _images(pictures, indices, own)),
    ]
    shown = all(group.images for group in groups)
    return Row(f"{kind.capitalize()}: {title or f'image {own}'}", detail, groups if shown else [])


def removed(pictures: Pictures) -> Section:
    """Anchors beside some of their false negatives."""
    rows = []
    for each in pictures.removed:
        detail = f"{each.total:,} of its negatives removed"
        if each.right is not None:
            detail += f", {each.right:.0%} of them of its class"
        rows.append(_row(pictures, "anchor", each.anchor, "removed", each.shown, detail))
    marks = (
        "✓ and a solid frame: the anchor's class, so rightly removed; ✗ and a dashed frame: "
        "another class."
        if any(each.right is not None for each in pictures.removed)
        else "The images have no labels, so right and wrong are not marked."
    )
    return Section(
        "Removed",
        "False negatives removed from the loss",
        notes=[f"Anchors and removed negatives are drawn at random from all images. {marks}"],
        galleries=[_gallery("anchors", rows)],
    )


def neighbours(pictures: Pictures) -> Section:
    """Random queries beside their nearest neighbours."""
    rows = []
    for each in pictures.neighbours:
        cosines = f"cosine {each.cosine[0]:.2f} to {each.cosine[-1]:.2f}" if each.cosine else ""
        rows.append(_row(pictures, "query", each.query, "nearest", each.nearest, cosines))
    note = (
        "Random queries and their nearest neighbours by cosine similarity, among "
        f"{pictures.searched:,} training images. ✓: the query's class, ✗: another class."
    )
    return Section(
        "Neighbours",
        "Nearest neighbours",
        notes=[note],
        galleries=[_gallery("queries, nearest first", rows)],
    )


def _gallery(title: str, rows: Sequence[Row]) -> Gallery:
    shown = [row for row in rows if row.groups]
    return Gallery(f"{len(shown)} {title}", shown)


def embedding(pictures: Pictures, names: Sequence[str]) -> Section:
    """The map, coloured by class and by the clusters of the first level.

    Args:
        pictures: the run's pictures.
        names: of the levels.
    """
    points = [point for point in pictures.map if str(point.example) in pictures.pictures]
    thumbnails = [pictures.pictures[str(point.example)] for point in points]
    labels = [each.label for each in thumbnails]
    places = [(point.x, point.y) for point in points]
    colourings: list[tuple[str, list[int], dict[int, str]]] = []
    if max(labels, default=-1) >= 0:
        colourings.append(("class", labels, {n: pictures.class_name(n) for n in labels if n >= 0}))
    if names and points and points[0].clusters:
        own = [point.clusters[0] for point in points]
        named = {number: f"cluster {number}" for number in own if number >= 0}
        colourings.append((f"cluster, {names[0]}", own, named))
    if points and not colourings:
        colourings.append(("nothing", [-1] * len(points), {}))
    maps, data = [], []
    for title, groups, named in colourings:
        drawn = embedding_map.draw(f"Map of the embedding by {title}", places, groups, named)
        maps.append(Map(title, drawn.svg))
        numbers = sorted(named)
        shown = [numbers.index(group) if group >= 0 else -1 for group in groups]
        titles = [named[number] for number in numbers]
        data.append({"order": drawn.order, "names": titles, "groups": shown})
    cards = []
    for point, picture in zip(points, thumbnails, strict=True):
        clusters = [
            f"cluster {number} of {name}" if number >= 0 else f"not accepted at {name}"
            for name, number in zip(names, point.clusters, strict=False)
        ]
        lines = [pictures.class_name(picture.label), picture.name, *clusters]
        cards.append([picture.webp, [line for line in lines if line]])
    note = (
        f"{len(points):,} training images by {pictures.projection}. Colour and shape show the "
        "group; small grey dots have none."
    )
    return Section(
        "Map",
        "Map of the embedding",
        notes=[note],
        maps=maps,
        map_data={"maps": data, "points": cards},
    )
