"""The report's sections of pictures: clusters, removed negatives, neighbours, the map."""

from collections.abc import Sequence

from ifnd_tf.report import embedding_map
from ifnd_tf.report.html import Gallery, Group, Map, Row, Section, Shown
from ifnd_tf.report.picture_choice import Cluster
from ifnd_tf.report.picture_file import Exhibits


def clusters(shown: Exhibits, names: Sequence[str]) -> list[Gallery]:
    """One gallery a level.

    Args:
        shown: the run's pictures.
        names: of the levels.
    """
    galleries = []
    for name, level in zip(names, shown.clusters, strict=False):
        rows = [_cluster(shown, cluster) for cluster in level]
        if rows:
            galleries.append(Gallery(f"{name}: {len(rows)} clusters, largest first", rows))
    return galleries


def _cluster(shown: Exhibits, cluster: Cluster) -> Row:
    detail = f"{cluster.size:,} images"
    if cluster.share is not None:
        detail += f", {cluster.share:.0%} of them {shown.class_name(cluster.label)}"
    groups = [
        Group("most confident", _pictures(shown, cluster.most)),
        Group("least confident", _pictures(shown, cluster.least)),
    ]
    return Row(f"Cluster {cluster.number}", detail, [group for group in groups if group.pictures])


def _pictures(shown: Exhibits, indices: Sequence[int], anchor: int | None = None) -> list[Shown]:
    """Pictures of the images that have one, marked right or wrong beside an anchor."""
    found = []
    for index in indices:
        picture = shown.pictures.get(str(index))
        if picture is None:
            continue
        words = [part for part in (shown.class_name(picture.label), picture.name) if part]
        mark = ""
        own = shown.pictures.get(str(anchor))
        if own is not None and min(own.label, picture.label) >= 0:
            mark = "right" if own.label == picture.label else "wrong"
            words.append("same class as the anchor" if mark == "right" else "another class")
        found.append(Shown(picture.webp, ", ".join(words), mark))
    return found


def removed(shown: Exhibits) -> Section:
    """Anchors beside some of the images that were left out of their negatives."""
    rows = []
    for each in shown.removed:
        anchor = _pictures(shown, [each.anchor])
        others = _pictures(shown, each.shown, each.anchor)
        if not anchor or not others:
            continue
        label = shown.class_name(shown.pictures[str(each.anchor)].label)
        detail = f"{each.total:,} images left out of its negatives"
        if each.right is not None:
            detail += f", {each.right:.0%} of them rightly"
        title = f"Anchor: {label}" if label else f"Anchor: image {each.anchor}"
        rows.append(Row(title, detail, [Group("anchor", anchor), Group("left out", others)]))
    marks = (
        "✓ with a solid frame: the anchor's class, so rightly left out; ✗ with a dashed frame: "
        "another class."
        if any(each.right is not None for each in shown.removed)
        else "The images have no labels, so right and wrong are not marked."
    )
    return Section(
        "removed",
        "Removed",
        "False negatives that were removed",
        notes=[f"Anchors and left-out images are drawn at random from all images. {marks}"],
        galleries=[Gallery(f"{len(rows)} anchors", rows)] if rows else [],
    )


def neighbours(shown: Exhibits) -> Section:
    """Random queries beside the images most like them."""
    rows = []
    for found in shown.neighbours:
        query = _pictures(shown, [found.query])
        if not query:
            continue
        title = shown.class_name(shown.pictures[str(found.query)].label) or f"image {found.query}"
        cosines = f"cosine {found.cosine[0]:.2f} to {found.cosine[-1]:.2f}" if found.cosine else ""
        groups = [Group("query", query)]
        groups.append(Group("nearest", _pictures(shown, found.nearest, found.query)))
        rows.append(Row(f"Query: {title}", cosines, groups))
    return Section(
        "neighbours",
        "Neighbours",
        "Nearest neighbours",
        notes=[
            f"Of random queries, by cosine of the embedding, among {shown.searched:,} training "
            "images. ✓: the query's class, ✗: another."
        ],
        galleries=[Gallery(f"{len(rows)} queries, nearest first", rows)] if rows else [],
    )


def embedding(shown: Exhibits, names: Sequence[str], *, small: bool) -> Section:
    """The map, coloured by class and by the coarsest level's clusters.

    Args:
        shown: the run's pictures.
        names: of the levels.
        small: whether thumbnails have so few pixels that these should be seen.
    """
    points = [point for point in shown.map if str(point.example) in shown.pictures]
    if not points:
        return Section("map", "Map", "Map of the embedding")
    labels = [shown.pictures[str(point.example)].label for point in points]
    colourings: list[tuple[str, list[int], dict[int, str]]] = []
    if max(labels) >= 0:
        named = {label: shown.class_name(label) for label in set(labels) if label >= 0}
        colourings.append(("class", labels, named))
    if names and points[0].clusters:
        own = [point.clusters[0] for point in points]
        named = {number: f"cluster {number}" for number in set(own) if number >= 0}
        colourings.append((f"cluster, {names[0]}", own, named))
    if not colourings:
        colourings.append(("nothing", [-1] * len(points), {}))
    maps, data = [], []
    for title, groups, named in colourings:
        drawn = embedding_map.draw(
            f"Map of the embedding by {title}", [(p.x, p.y) for p in points], groups, named
        )
        maps.append(Map(title, drawn.svg))
        numbers = sorted(named)
        place = {number: i for i, number in enumerate(numbers)} | {-1: -1}
        data.append(
            {
                "order": drawn.order,
                "names": [named[number] for number in numbers],
                "groups": [place[group] for group in groups],
            }
        )
    cards = []
    for point, label in zip(points, labels, strict=True):
        picture = shown.pictures[str(point.example)]
        found = [
            f"cluster {number} of {name}" if number >= 0 else f"not accepted at {name}"
            for name, number in zip(names, point.clusters, strict=False)
        ]
        lines = [shown.class_name(label), picture.name, *found]
        cards.append([picture.webp, [line for line in lines if line]])
    return Section(
        "map",
        "Map",
        "Map of the embedding",
        notes=[
            f"{len(points):,} training images by {shown.projection}. Colour and shape show the "
            "group; small grey dots have none."
        ],
        maps=maps,
        map_data={"maps": data, "points": cards, "small": small},
    )
