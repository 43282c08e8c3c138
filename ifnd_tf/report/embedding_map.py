"""The embedding in two dimensions: its projection and its drawing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from ifnd_tf.report import charts
from ifnd_tf.report.charts import COLOURS, INK, MARKERS, PAPER, SYMBOLS
from ifnd_tf.run.words import counted

_MOST_NAMES = 20
# The extent of a small group, as a share of the map's.
_SMALL = 0.15
# Below this t-SNE has too few neighbours to look at.
_FEWEST_FOR_TSNE = 20


class Drawing(NamedTuple):
    """A map as SVG.

    Attributes:
        svg: the element; its n-th `<use>` within a `.points` group is the n-th of `order`.
        order: places of the points in the list that was drawn.
    """

    svg: str
    order: list[int]


def project(embedding: np.ndarray, *, quick: bool, seed: int) -> tuple[np.ndarray, str]:
    """Projects an embedding to two dimensions.

    t-SNE (van der Maaten and Hinton 2008) shows groups; it takes seconds, so a run that is
    still training shows principal components.

    Args:
        embedding: float [M, D], unit vectors.
        quick: principal components only.
        seed: of t-SNE.

    Returns:
        float [M, 2], and the projection in words.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(embedding) < 3 or embedding.shape[1] < 2:
        return np.zeros([len(embedding), 2]), "nothing: too few images"
    if np.ptp(embedding, axis=0).max() < 1e-6:  # t-SNE would return NaN
        return np.zeros([len(embedding), 2]), "nothing: all embeddings are the same"
    if quick or len(embedding) < _FEWEST_FOR_TSNE:
        components = PCA(2, svd_solver="full").fit(embedding)
        share = components.explained_variance_ratio_.sum()
        return components.transform(embedding), (
            f"the first two principal components, {share:.0%} of the variance"
        )
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    # One thread: several wait for each other after each of the many small steps, which beside
    # other work takes a minute for 300 points.
    with threadpool_limits(1):
        places = TSNE(
            2, perplexity=perplexity, init="pca", metric="cosine", random_state=seed,
            max_iter=500,  # half of the usual time; trustworthiness falls from 0.979 to 0.978
        ).fit_transform(embedding)  # fmt: skip
    return places, f"t-SNE of cosine distances, perplexity {perplexity:.0f}"


def legend(names: Mapping[int, str]) -> list[tuple[str, str, str]]:
    """Name, symbol and colour of each group; empty if groups must share symbol and colour.

    Args:
        names: of the groups by their numbers.
    """
    if max(names, default=0) >= len(COLOURS) * len(MARKERS):
        return []
    return [
        (name, SYMBOLS[number % len(SYMBOLS)], charts.css(COLOURS[number % len(COLOURS)]))
        for number, name in names.items()
    ]


def draw(
    title: str,
    places: Sequence[tuple[float, float]],
    groups: Sequence[int],
    names: Mapping[int, str],
) -> Drawing:
    """Draws points in the colour and shape of their group.

    Args:
        title: of the map.
        places: (x, y) of each point.
        groups: number of each point's group, -1 for none.
        names: of the groups; written into the map where there are few.
    """
    where, group = np.asarray(places, float).reshape(-1, 2), np.asarray(groups)
    # If there are more groups than kinds of point, some share one; the page names a point's group.
    kinds = len(COLOURS) * len(MARKERS)
    kind = np.where(group < 0, -1, group % kinds)
    order: list[int] = []
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        for number in np.unique(kind):
            chosen = np.flatnonzero(kind == number)
            order += chosen.tolist()
            axes.scatter(
                where[chosen, 0],
                where[chosen, 1],
                s=9 if number < 0 else 20,
                c=COLOURS[-1] if number < 0 else COLOURS[number % len(COLOURS)],
                marker="." if number < 0 else MARKERS[number % len(MARKERS)],
                edgecolors=PAPER,
                linewidths=0.3,
                gid="points",
            )
        found = [number for number in np.unique(group) if number >= 0]
        if len(found) <= _MOST_NAMES:
            axes.margins(0.12, 0.05)  # for the names, which the layout would shrink the map for
            for number in found:
                own = where[group == number]
                x, y = np.median(own, axis=0)
                # A name would hide the points of a small group, so it stands above them.
                small = (np.ptp(own, axis=0) < _SMALL * np.ptp(where, axis=0)).all()
                box = {"facecolor": PAPER, "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
                axes.annotate(
                    names.get(int(number), str(number)), (x, own[:, 1].max() if small else y),
                    (0, 7 if small else 0), textcoords="offset points", color=INK, size=10,
                    weight="bold", ha="center", va="bottom" if small else "center", bbox=box,
                ).set_in_layout(False)  # fmt: skip
        words = f"{counted(len(where), 'image')} in {counted(len(found), 'group')}"
        return Drawing(
            charts.svg(figure, title, words).replace('id="points"', 'class="points"'), order
        )
