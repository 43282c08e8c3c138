"""Weakly supervised contrastive learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.distribute.replicas import compiled_whole
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, attracted


@dataclasses.dataclass(frozen=True)
class ConnectedComponents(Rule):
    """`--treatment=wcl`: images joined by nearest neighbours within the batch are positives.

    -1/|P| sum_{p in P} log( e^{s_p} / (e^{s+} + sum_j e^{s_j}) ), P the key and both views of the
    images in the same connected component of a graph that joins each image with its nearest one.
    An anchor's graph is that of the other views, so that its targets do not follow from its own
    view. Source: WCL (Zheng et al., ICCV 2021, arXiv 2110.04770; mingkai-zheng/WCL), whose
    graph has a projector and a loss of its own, added 1:1 to InfoNCE; here one loss has both.
    """

    sets = ("target",)
    needs = ("embeddings", "batch")
    detects = "pairs"

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        embeddings, index = batch.inputs.embeddings[1], batch.examples[1]
        rows = batch.examples[0].shape[0]  # a replica's first views, then its second ones
        replicas = embeddings.shape[0] // rows
        views = tf.reshape(embeddings, [replicas, 2, rows // 2, -1])
        first, second = (components(tf.reshape(views[:, v], [-1, views.shape[-1]])) for v in (0, 1))
        images = tf.reshape(tf.reshape(index, [replicas, 2, -1])[:, 0], [-1])
        mine = tf.cast(batch.examples[0][:, None] == images[None, :], tf.int32)
        mine = tf.argmax(mine, axis=1, output_type=tf.int32)
        is_first = (tf.range(rows) < rows // 2)[:, None]
        own = tf.where(is_first, *(taken(each, mine)[:, None] for each in (second, first)))

        def of_candidates(each: tf.Tensor) -> tf.Tensor:
            both = tf.repeat(tf.reshape(each, [replicas, 1, -1]), 2, axis=1)
            return tf.reshape(both, [1, -1])

        theirs = tf.where(is_first, of_candidates(second), of_candidates(first))
        return attracted(treatment, batch, [lambda: own == theirs])


def components(points: tf.Tensor) -> tf.Tensor:
    """The connected component of each point [n, D] in their 1-NN graph, int32 [n].

    Every path along nearest neighbours ends in a cycle, one for each component, whose least point
    names the component. Each turn doubles the length of the paths followed.
    """
    alike = tf.matmul(points, points, transpose_b=True)
    alike = tf.linalg.set_diag(alike, tf.fill([points.shape[0]], float("-inf")))
    after = tf.argmax(alike, axis=1, output_type=tf.int32)
    least = tf.range(points.shape[0])
    for _ in range(points.shape[0].bit_length()):
        least, after = tf.minimum(least, taken(least, after)), taken(after, after)
    return taken(least, after)


def taken(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """`values` [n] at `places`, int32 [m]."""
    if not compiled_whole():
        return tf.gather(values, places)
    # The TPU's compiler aborts at gathers of what was gathered before.
    there = places[:, None] == tf.range(values.shape[0])
    return tf.reduce_sum(tf.where(there, values[None, :], 0), axis=1)
