"""Labels whose pairs have a chosen precision and recall, made from true ones: pure NumPy."""

import functools
from collections.abc import Callable

import numpy as np

from ifnd_tf.detection.metrics import detection_statistics
from ifnd_tf.errors import UserError

_HALVINGS = 30
# By how much the precision may exceed the one asked for.
_TOLERANCE = 0.02
# How far the precision may be from the one asked for once examples are left out.
_LARGEST_ERROR = 0.05


def noisy_labels(truth: np.ndarray, precision: float, recall: float, seed: int = 0) -> np.ndarray:
    """Labels [N] whose pairs have a precision and recall, -1 where left out.

    If the recall is above the precision, some classes are merged. Then examples get the label of a
    random other example until the precision is met, and examples are left out until the recall
    is. Errors are those of examples, so pairs are wrong together, as with clusters.

    Args:
        truth: int [N], -1 unknown; those stay -1.
        precision: of the pairs, in (0, 1].
        recall: of the pairs, in (0, 1].
        seed: of the draws.

    Raises:
        UserError: if no labels have both, or no example is known; it names the highest recall at
            this precision, or the precision that can be had.
    """
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        raise UserError("--detector=noisy_oracle: expected labelled images. Received: none.")
    classes = np.unique(truth[known], return_inverse=True)[1]
    result = np.full(len(truth), -1, np.int32)
    result[known] = _of_classes(classes, precision, recall, np.random.default_rng(seed))
    return result


def _of_classes(
    classes: np.ndarray, precision: float, recall: float, random: np.random.Generator
) -> np.ndarray:
    """`noisy_labels` of examples whose classes, int [n] from 0 on, are all known."""
    wrong, left_out = random.random([2, len(classes)])
    drawn = random.permutation(len(classes))

    def confused(groups: int, share: float) -> np.ndarray:
        merged = classes % groups
        return np.where(wrong < share, merged[drawn], merged)

    def scores(labels: np.ndarray) -> tuple[float, float]:
        found = detection_statistics(labels, classes)
        return found["precision"], found["recall"]

    def precise(groups: int, share: float) -> bool:
        return scores(confused(groups, share))[0] >= precision

    def without(labels: np.ndarray, share: float) -> np.ndarray:
        # The same share of each label's examples of each class, so that precision stays.
        cell = labels * (classes.max() + 1) + classes
        return np.where(_places(cell, left_out) < share, -1, labels)

    def complete(labels: np.ndarray, share: float) -> bool:
        return (scores(without(labels, share))[1] or 0.0) >= recall

    best = 0.0
    for groups in range(int(classes.max()) + 1, 0, -1):
        if not precise(groups, 0.0):
            break
        labels = confused(groups, _largest(functools.partial(precise, groups)))
        found = scores(labels)
        if found[0] > precision + _TOLERANCE:
            break  # random labels are more precise already
        best = max(best, found[1])
        if complete(labels, 0.0):
            share = _largest(functools.partial(complete, labels))
            kept = without(labels, share)
            if abs((found := scores(kept))[0] - precision) > _LARGEST_ERROR:
                raise UserError(
                    "--oracle_precision: expected pairs that classes of "
                    f"{len(classes) / groups:.0f} images can have. Received: {precision} at "
                    f"--oracle_recall={recall}, where the nearest is {found[0]:.2f}; "
                    "ask for a higher recall or other images."
                )
            return kept
    raise UserError(
        f"--oracle_recall: expected at most {best:.2f} at --oracle_precision={precision}, or a "
        f"precision nearer to 1. Received: {recall}; labels of {int(classes.max()) + 1} classes "
        "have no such pairs."
    )


def _places(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each value's place among those of its group, evenly between 0 and 1."""
    order = np.lexsort((values, groups))
    sizes = np.unique(groups, return_counts=True)[1]
    within = np.concatenate([np.arange(size) + 0.5 for size in sizes])
    places = np.zeros(len(groups))
    places[order] = within / np.repeat(sizes, sizes)
    return places


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest share at which `holds` is true, by bisection from 0, where it is."""
    low, high = 0.0, 1.0
    if holds(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
