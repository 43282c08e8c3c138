"""The report's sections of pictures: removed negatives, neighbours, the map."""

from collections.abc import Callable, Sequence

from ifnd_tf.report import embedding_map
from ifnd_tf.report.html import Section
from ifnd_tf.report.pictures import Pictures


def removed(pictures: Pictures) -> Section:
    """Anchors beside some of their false negatives."""
    rows = [
        each
        for each in pictures.removed
        if pictures.known([each.anchor]) and pictures.known(each.shown)
    ]
    return Section("Removed", "False negatives removed from the loss", pictures=rows)


def neighbours(pictures: Pictures) -> Section:
    """Random queries beside their nearest neighbours."""
    rows = [
        each
        for each in pictures.neighbours
        if pictures.known([each.query]) and pictures.known(each.nearest)
    ]
    return Section("Neighbours", "Nearest neighbours", pictures=rows)


def embedding(pictures: Pictures, names: Sequence[str]) -> Section:
    """The map, coloured by class and by the clusters of the first level.

    Args:
        pictures: the run's pictures.
        names: of the levels.

    Returns:
        A section with a picture (title, svg, data) for each colouring; data is for the page's
        script: the "order" of `embedding_map.Drawing`, the "names" of the groups, the "groups"
        of the points by their place among the names, -1 for none, and the "legend".
    """
    points = pictures.map
    labels = [pictures.pictures[point.example].label for point in points]
    colourings: dict[str, tuple[list[int], Callable[[int], str]]] = {}
    if max(labels, default=-1) >= 0:
        colourings["class"] = labels, pictures.class_name
    if names and points and points[0].clusters:
        own = [point.clusters[0] for point in points]
        colourings[f"cluster, {names[0]}"] = own, "cluster {}".format
    if points and not colourings:
        colourings["nothing"] = labels, str
    maps = []
    for title, (groups, name) in colourings.items():
        numbers = [number for number in sorted(set(groups)) if number >= 0]
        drawn = embedding_map.draw(
            f"Map of the embedding by {title}",
            [(point.x, point.y) for point in points],
            groups,
            {number: name(number) for number in numbers},
        )
        places = [numbers.index(group) if group >= 0 else -1 for group in groups]
        data = {
            "order": drawn.order,
            "names": list(map(name, numbers)),
            "groups": places,
            "legend": embedding_map.legend({number: name(number) for number in numbers}),
        }
        maps.append((title, drawn.svg, data))
    return Section("Map", "Map of the embedding", pictures=maps)


def map_points(pictures: Pictures, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The thumbnail of each point of the map, and its class, name and clusters in words."""
    found = []
    for point in pictures.map:
        picture = pictures.pictures[point.example]
        clusters = [
            f"cluster {number} of {name}" if number >= 0 else f"not accepted at {name}"
            for name, number in zip(names, point.clusters, strict=False)
        ]
        lines = [pictures.class_name(picture.label), picture.name, *clusters]
        found.append((picture.webp, [line for line in lines if line]))
    return found
