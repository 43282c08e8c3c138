"""Exact and near duplicates of images, found by fingerprints and features."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.run.words import counted

# Images compared at a time with all others of their cluster.
_ROWS = 1024


class Duplicates(NamedTuple):
    """Pairs, each later image with the earliest one it repeats.

    Attributes:
        repeat: int `[P]`, the later image.
        original: int `[P]`, the earlier one; never itself a duplicate of a third.
        similarity: float32 `[P]`, cosine of the centred features; 1 for equal pixels.
        exact: bool `[P]`, whether all pixels that the encoder sees are equal.
    """

    repeat: np.ndarray
    original: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray

    @property
    def counts(self) -> str:
        """How many there are, in words."""
        exact = int(self.exact.sum())
        return f"{exact:,} exact and {counted(len(self.exact) - exact, 'near duplicate')}"


def fingerprint(images: tf.Tensor) -> tf.Tensor:
    """A number of 64 bits that equal images share and different ones do not, but by chance.

    Args:
        images: uint8 `[b, S, S, 3]`.

    Returns:
        int64 `[b]`: a random sum, modulo 2^64; two given images collide with chance 2^-63 or so.
    """
    weights = np.random.default_rng(0).integers(-(2**63), 2**63, images.shape[1:], np.int64)
    return tf.reduce_sum(tf.cast(images, tf.int64) * (weights | 1), axis=[1, 2, 3])


def find_duplicates(
    fingerprints: np.ndarray,
    features: np.ndarray,
    clusters: np.ndarray,
    threshold: float,
    progress: Count = uncounted,
) -> Duplicates:
    """Exact copies anywhere, near copies within a cluster.

    Args:
        fingerprints: int64 `[N]`.
        features: float32 `[N, F]`; centred and brought to unit length here, since what all
            images share tells none apart.
        clusters: int `[N]`; bounds the work to pairs of one cluster, where near copies are.
        threshold: least cosine of a near copy, in (0, 1].
        progress: called with the number of clusters that are done and of all.
    """
    centred = features - features.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    _, first, member = np.unique(fingerprints, return_index=True, return_inverse=True)
    original = first[member]  # the least index of each fingerprint
    similarity = np.ones(len(features), np.float32)
    distinct = original == np.arange(len(features))
    exact = ~distinct
    different = np.flatnonzero(distinct)
    order = different[np.argsort(clusters[different], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)
    for number, members in enumerate(parts, start=1):
        for start in range(0, len(members), _ROWS):
            rows = members[start : start + _ROWS]
            cosine = unit[rows] @ unit[members].T
            earlier = members[None, :] < rows[:, None]
            near = earlier & (cosine >= threshold)
            found = near.any(axis=1)
            nearest = near.argmax(axis=1)  # the earliest one
            original[rows[found]] = members[nearest[found]]
            similarity[rows[found]] = cosine[found, nearest[found]]
        progress(number, len(parts))
    repeat = np.flatnonzero(original != np.arange(len(features)))
    # Chains of copies lead to one original.
    while (original[original] != original).any():
        original = original[original]
    return Duplicates(repeat, original[repeat], similarity[repeat], exact[repeat])


def grouped(copies: Duplicates, *, most: int, shown: int) -> list[tuple[int, list[int], str]]:
    """Groups to look at: an image, some of its repeats, and in words how near they are.

    The largest groups come first, and of one size those with more near copies.

    Args:
        copies: of all images.
        most: how many groups at most.
        shown: how many repeats of each at most, near ones first.
    """
    originals, group, counts = np.unique(copies.original, return_inverse=True, return_counts=True)
    near = np.bincount(group, ~copies.exact, len(originals)).astype(int)
    found = []
    for number in np.lexsort((originals, -near, -counts))[:most]:
        own = group == number
        exact = int(counts[number] - near[number])
        words = [f"{exact} exact"] * (exact > 0)
        if near[number]:
            least = copies.similarity[own & ~copies.exact].min()
            words.append(f"{near[number]} near, cosine from {least:.2f}")
        repeats = copies.repeat[own][np.argsort(copies.exact[own], kind="stable")].tolist()
        found.append((int(originals[number]), repeats[:shown], ", ".join(words)))
    return found
