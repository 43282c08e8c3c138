"""Measures of collapse, and warnings about values beyond their limits."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Pairs are taken among this many examples at most: 8 million pairs fix the mean well enough.
_UNIFORMITY_SAMPLE = 4096


def collapse_measures(embedding: np.ndarray, *, seed: int = 0) -> Iterator[tuple[str, float]]:
    """Spread, rank and uniformity of embeddings.

    Args:
        embedding: float `[N, D]`, N >= 2; brought to unit length here.
        seed: of the sample of pairs when N exceeds 4096.

    Yields:
        ("health_embedding_std", ...), ("health_effective_rank", ...), ("health_uniformity",
        ...); see the functions of these names.
    """
    unit = _unit(embedding)
    yield "health_embedding_std", embedding_std(unit)
    yield "health_effective_rank", effective_rank(unit)
    yield "health_uniformity", uniformity(unit, seed=seed)


def embedding_std(unit: np.ndarray) -> float:
    """Root mean variance of the coordinates times sqrt(D): 1 spread evenly, 0 collapsed.

    Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021, section 4.1. For unit
    vectors it is sqrt(1 - |mean|^2).

    Args:
        unit: `[N, D]`, rows of unit length.

    Returns:
        In `[0, 1]`.
    """
    return math.sqrt(float(np.mean(np.var(unit, axis=0, dtype=np.float64))) * unit.shape[1])


def effective_rank(embedding: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values.

    Roy & Vetterli, "The effective rank", EUSIPCO 2007; as RankMe (Garrido et al., ICML 2023) uses
    it: not centred, so that embeddings that are all equal have rank 1.

    Args:
        embedding: `[N, D]`; only D x D numbers are kept besides it.

    Returns:
        In `[1, min(N, D)]`; 0 if all embeddings are 0.
    """
    width = embedding.shape[1]
    moments = np.zeros([width, width])
    for start in range(0, len(embedding), 8192):
        rows = embedding[start : start + 8192].astype(np.float64)
        moments += rows.T @ rows
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(moments), 0.0))
    # Squaring halves the digits: below this a singular value is rounding noise.
    singular = singular[singular > 1e-7 * singular.max()]
    if not singular.size:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def uniformity(unit: np.ndarray, *, seed: int = 0) -> float:
    """log E exp(-2 |x - y|^2) over pairs of different images; lower is more uniform.

    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", ICML 2020, equation for L_uniform with t = 2.

    Args:
        unit: `[N, D]`, rows of unit length.
        seed: of the sample when N exceeds 4096.

    Returns:
        In `[-8, 0]`: 0 when all are equal, about -4 spread evenly over a sphere of many
        dimensions.
    """
    if len(unit) > _UNIFORMITY_SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(unit), _UNIFORMITY_SAMPLE, replace=False)
        unit = unit[np.sort(chosen)]
    total, count = 0.0, len(unit)
    for start in range(0, count, 512):
        cosine = unit[start : start + 512] @ unit.T
        total += float(np.sum(np.exp(-4.0 * np.maximum(1.0 - cosine, 0.0)), dtype=np.float64))
    # Each example met itself once, at distance 0.
    return math.log(max(total - count, 1e-300) / (count * (count - 1)))


class Limit(NamedTuple):
    """The border of the healthy values of a metric.

    Attributes:
        value: the border.
        advice: what is wrong beyond it, and what to do.
        upper: whether healthy values lie below it.
        in_the_end: whether a value beyond it is wrong only once training has ended.
    """

    value: float
    advice: str
    upper: bool = True
    in_the_end: bool = False

    def excess(self, value: float) -> float:
        """How far beyond the limit a value lies."""
        return max(value - self.value if self.upper else self.value - value, 0.0)


# std, uniformity and alignment share one border: half of the cosine similarity is common to all
# images (|mean|^2 = 0.75 for std; a mean squared distance of 0.5 for uniformity), or two views
# of one image have a cosine under 0.5.
LIMITS = {
    "embedding_std": Limit(
        0.5, "the embeddings crowd around one point (collapse): lower --learning_rate, raise "
        "--temperature, or check the views", upper=False,
    ),
    "effective_rank": Limit(
        3.0, "nearly all variation lies in fewer than three directions (dimensional collapse): "
        "lower --learning_rate or weaken the augmentation", upper=False,
    ),
    "uniformity": Limit(
        -1.0, "most images are near each other on the sphere (collapse): lower --temperature, or "
        "mask fewer negatives",
    ),
    "alignment": Limit(
        1.0, "two views of one image are hardly alike: train longer or weaken the augmentation",
        in_the_end=True,  # it grows first, when images begin to be told apart
    ),
    "masked_share": Limit(
        0.5, "more than half of the negatives are masked, so little is left to learn from: raise "
        "--num_clusters or lower --acceptance_end",
    ),
    "label_churn": Limit(
        0.9, "almost no detected pair survives a refresh, so the labels are mostly noise: lengthen "
        "--warmup_epochs or lower --num_clusters",
    ),
}  # fmt: skip


def limit_warnings(
    values: Mapping[str, float], before: Mapping[str, float] | None = None
) -> list[str]:
    """Warns of values beyond their limit, unless they approach it.

    An untrained encoder maps all images near one point, so a healthy run begins beyond some
    limits, and how many steps it needs depends on the data. A collapse differs by the direction: a
    value approaches its limit if it has covered a tenth of the distance.

    Args:
        values: metrics by name, as in results.json or a line of metrics.jsonl; the prefixes
            "health_" and "detection_" are ignored, unknown names too.
        before: earlier values, or those of an untrained encoder; None: direction does not count.

    Returns:
        One sentence for each value beyond its limit in `LIMITS`, or not finite.
    """
    found = []
    for name, value in values.items():
        short, limit = _limit(name)
        if limit is None:
            continue
        words = short.replace("_", " ").capitalize()
        earlier = before.get(name) if before else None
        if not math.isfinite(value):
            found.append(f"{words} is {value}: the run has diverged.")
        elif limit.excess(value) > (0.9 * limit.excess(earlier) if earlier is not None else 0.0):
            side = "above" if limit.upper else "below"
            found.append(f"{words} {value:.3g} is {side} {limit.value:g}: {limit.advice}.")
    return found


def training_warnings(name: str, values: Sequence[float], last: bool) -> list[str]:
    """`limit_warnings` of the newest value while training, against the one halfway.

    Fewer than five values have no direction.

    Args:
        name: the metric's.
        values: its value after each epoch so far.
        last: whether training ends here.
    """
    limit = _limit(name)[1]
    if limit is None or not math.isfinite(values[-1]):
        return limit_warnings({name: values[-1]})
    if len(values) < 5 or (limit.in_the_end and not last):
        return []
    return limit_warnings({name: values[-1]}, before={name: values[(len(values) - 1) // 2]})


def beyond(name: str, value: float) -> bool:
    """Whether a value lies beyond its metric's limit or is not finite."""
    limit = _limit(name)[1]
    return not math.isfinite(value) or (limit is not None and limit.excess(value) > 0)


def _limit(name: str) -> tuple[str, Limit | None]:
    """A metric's name without its prefix, and its limit if it has one."""
    short = re.sub("^(health|detection|final)_", "", name)
    return short, LIMITS.get(short)


def _unit(embedding: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.asarray(embedding / np.maximum(norm, 1e-12), np.float32)
