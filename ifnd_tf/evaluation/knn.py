"""Weighted k-nearest-neighbour classification of frozen features."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ifnd_tf.evaluation.embed import Embeddings
from ifnd_tf.run.progress import Count, uncounted

# Queries compared at a time: enough rows for a full matmul.
QUERIES = 512
# Columns that share a maximum in `_largest`.
_GROUP = 16


def weighted_knn(
    train: Embeddings,
    test: Embeddings,
    *,
    neighbors: int = 200,
    temperature: float = 0.1,
    chunk: int = 65536,
    count: Count = uncounted,
) -> Iterator[tuple[str, float]]:
    """Classifies each test example by its neighbours' votes, each worth `exp(cosine / tau)`.

    Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", CVPR 2018, section 3.4 (200 neighbours, tau = 0.07; MoCo's CIFAR demo takes
    tau = 0.1). A class that got no vote is never right.

    Args:
        train: the memory, N examples.
        test: the queries.
        neighbors: how many neighbours vote; clipped to N.
        temperature: tau, > 0.
        chunk: rows of the memory compared at a time, which bounds the host's and the device's
            memory: about 512 * chunk similarities exist at once.
        count: called with the test examples classified, and their number.

    Yields:
        ("knn_top1", share in `[0, 1]`) and, with more than five classes, ("knn_top5", share).
    """
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    memory = knn_memory(train.features, train.labels, chunk)
    vote = functools.partial(
        query_ranks, memory, neighbors=neighbors, temperature=temperature, num_classes=num_classes
    )
    batches = [slice(i, i + QUERIES) for i in range(0, len(test.labels), QUERIES)]
    ranks = []
    for at in batches:
        ranks.append(np.asarray(vote(test.features[at], test.labels[at])))
        count(min(at.stop, len(test.labels)), len(test.labels))
    rank = np.concatenate(ranks)
    yield "knn_top1", float(np.mean(rank < 1))
    if num_classes > 5:
        yield "knn_top5", float(np.mean(rank < 5))


def knn_memory(features: Any, labels: Any, chunk: int = 65536) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The memory of N examples as `query_ranks` takes it: unit features and labels, in chunks.

    Args:
        features: float32 `[N, F]`.
        labels: int32 `[N]`.
        chunk: rows of the memory compared at a time.
    """
    # Whole groups first, the few rows left over last: see `_largest`.
    whole = labels.shape[0] // _GROUP * _GROUP
    step = max(chunk // _GROUP, 1) * _GROUP
    starts = [*range(0, whole, step), whole]
    return [
        (tf.math.l2_normalize(features[i:j], axis=1), tf.cast(labels[i:j], tf.int32))
        for i, j in zip(starts, [*starts[1:], labels.shape[0]], strict=True)
        if i < j
    ]


def query_ranks(
    memory: list[tuple[tf.Tensor, tf.Tensor]],
    features: Any,
    labels: Any,
    *,
    neighbors: int,
    temperature: float,
    num_classes: int,
) -> tf.Tensor:
    """The rank, from 0, of each query's true class among the votes; C where it got none.

    Of equal votes the lower class comes first, as by argmax: equal votes for all are right by
    chance.

    Args:
        memory: from `knn_memory`.
        features: float32 `[q, F]`.
        labels: int32 `[q]`.
        neighbors: k; clipped to N.
        temperature: tau, > 0.
        num_classes: C.

    Returns:
        int32 `[q]`.
    """
    neighbors = min(neighbors, sum(chunk[1].shape[0] for chunk in memory))
    queries = tf.math.l2_normalize(features, axis=1)
    similarity, voters = [], []
    for rows, row_labels in memory:
        found, at = _largest(tf.matmul(queries, rows, transpose_b=True), neighbors)
        similarity.append(found)
        voters.append(tf.gather(row_labels, at))
    nearest, at = _largest(tf.concat(similarity, axis=1), neighbors)
    voting = tf.gather(tf.concat(voters, axis=1), at, batch_dims=1)
    # The nearest counts 1, whatever tau: e^{1/tau} itself overflows below tau = 0.012.
    closest = tf.reduce_max(nearest, axis=1, keepdims=True)
    weights = tf.exp((nearest - closest) / temperature)
    count = queries.shape[0]
    cells = tf.reshape(tf.range(count)[:, None] * num_classes + voting, [-1])
    votes = tf.math.unsorted_segment_sum(tf.reshape(weights, [-1]), cells, count * num_classes)
    votes = tf.reshape(votes, [-1, num_classes])
    labels = tf.cast(labels, tf.int32)
    own = tf.gather(votes, labels, batch_dims=1)[:, None]
    lower = tf.range(num_classes) < labels[:, None]
    ahead = (votes > own) | ((votes == own) & lower)
    rank = tf.reduce_sum(tf.cast(ahead, tf.int32), axis=1)
    return tf.where(own[:, 0] > 0, rank, num_classes)


def _largest(similarity: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The `count` largest values of each row, or all, unsorted, and their columns.

    A row's k largest values lie in the k groups of columns with the largest maxima: one cheap
    maximum per group spares `top_k`, the slowest part by far, most of the columns. Exact.
    """
    columns = similarity.shape[1]
    if columns % _GROUP or columns <= count * _GROUP:
        return tf.math.top_k(similarity, min(count, columns), sorted=False)
    grouped = tf.reshape(similarity, [-1, columns // _GROUP, _GROUP])
    _, kept = tf.math.top_k(tf.reduce_max(grouped, axis=2), count, sorted=False)
    candidates = tf.reshape(tf.gather(grouped, kept, batch_dims=1), [-1, count * _GROUP])
    values, at = tf.math.top_k(candidates, count, sorted=False)
    return values, tf.gather(kept, at // _GROUP, batch_dims=1) * _GROUP + at % _GROUP
