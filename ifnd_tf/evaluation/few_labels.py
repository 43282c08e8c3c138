"""Class-balanced subsets of the labels, the same ones in every run, and probes trained on them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from ifnd_tf.distribute import stateless_random
from ifnd_tf.errors import UserError
from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.evaluation.linear_probe import linear_probe
from ifnd_tf.run.progress import Count, uncounted
from ifnd_tf.run.words import counted

_PURPOSE = 31  # Keeps these draws apart from others with the same seed.


def label_subset(
    labels: np.ndarray, share: float, *, seed: int, class_names: Sequence[str] = ()
) -> np.ndarray:
    """Picks equally many examples of every class.

    SimCLR (Chen et al., ICML 2020, section 4.2) samples 1% or 10% of the labels "in a
    class-balanced way". The choice follows from the seed and the examples' indices alone.

    Args:
        labels: int `[N]`, -1 where unknown.
        share: float, of the labelled examples, in `(0, 1]`: each class gives
            `share * labelled / classes`, rounded, but at least one. int: each class gives so many.
        seed: another seed, another subset.
        class_names: for error messages.

    Returns:
        int32 indices, ascending.

    Raises:
        UserError: without labels, or when a class has fewer examples than it is to give.
    """
    classes, each = subset_sizes(labels, share, class_names)
    index = tf.range(len(labels), dtype=tf.int32)
    priority = stateless_random.uniform([seed, _PURPOSE], index, 1)[:, 0].numpy()
    order = np.lexsort([np.arange(len(labels)), priority])
    chosen = [order[labels[order] == one][:each] for one in classes]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def subset_sizes(
    labels: np.ndarray, share: float, class_names: Sequence[str] = ()
) -> tuple[np.ndarray, int]:
    """The classes, and how many examples each gives to a `label_subset`; raises as it does."""
    if not (0 < share <= 1 or (isinstance(share, int) and share > 0)):
        raise UserError(f"Expected a share of the labels in (0, 1]. Received: {share}.")
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not classes.size:
        raise UserError(
            "Expected labels to take a subset of. Received: none; choose a labelled data set."
        )
    each = share if isinstance(share, int) else max(1, round(share * counts.sum() / len(classes)))
    if counts.min() < each:
        which = int(classes[counts.argmin()])
        name = class_names[which] if which < len(class_names) else str(which)
        raise UserError(
            f"--label_shares: expected at least {counted(each, 'image')} of every class for a "
            f"balanced {subset_name(share)}. Received: {counts.min()} of class {name!r}; take "
            "the class away, ask for fewer labels (--label_shares=1shot), or leave few_labels and "
            "finetune out (--protocols=knn,linear,clustering)."
        )
    return classes, each


def subset_name(share: float) -> str:
    """A share as metric names spell it: 1pct, 10pct, 0.5pct; or labels of each class: 5shot."""
    return f"{share}shot" if isinstance(share, int) else f"{100 * share:g}pct"


def averaged(runs: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    """The same metrics of several subsets: (name, mean) and, of top-1, (name + "_std", ...)."""
    for name in runs[0]:
        values = [run[name] for run in runs]
        yield name, float(np.mean(values))
        if name.endswith("top1"):
            yield f"{name}_std", float(np.std(values))


def label_subset_probe(
    train: Embeddings,
    test: Embeddings,
    *,
    shares: Sequence[float] = (0.01, 0.1),
    seeds: Sequence[int] = (0, 1, 2),
    class_names: Sequence[str] = (),
    count: Count = uncounted,
) -> Iterator[tuple[str, float]]:
    """Linear probe that is shown a part of the labels only.

    Args:
        train: all N training examples.
        test: the examples to test on.
        shares: of the labels, each as `label_subset` takes it.
        seeds: of the subsets; accuracy is averaged over them, since small subsets differ.
        class_names: for error messages.
        count: called with the probes trained, and their number.

    Yields:
        For each share, as for 1%: ("linear_1pct_top1", mean share in `[0, 1]`),
        ("linear_1pct_top5", ...) with more than five classes, and ("linear_1pct_top1_std",
        standard deviation over the seeds).

    Raises:
        UserError: as `label_subset`.
    """
    for place, share in enumerate(shares):
        runs = []
        for number, seed in enumerate(seeds):
            count(place * len(seeds) + number, len(shares) * len(seeds))
            chosen = label_subset(train.labels, share, seed=seed, class_names=class_names)
            part = Embeddings(train.features[chosen], train.labels[chosen])
            found = linear_probe(part, test, solver="lbfgs")
            prefix = f"linear_{subset_name(share)}_"
            runs.append({name.replace("linear_", prefix): value for name, value in found})
        yield from averaged(runs)
