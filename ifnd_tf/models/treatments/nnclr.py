"""Nearest neighbour contrastive learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, likeness, soft_targets


@dataclasses.dataclass(frozen=True)
class NearestNeighbour(Rule):
    """`--treatment=nnclr`: the positive is the key's nearest neighbour in the queue.

    The target is 1 on the candidate with the largest t_j, and 0 on the key; with an empty queue, 1
    on the key. Source: NNCLR (Dwibedi et al., ICCV 2021, arXiv 2104.14548), approximately: the
    original's support set is not its negatives, and its neighbour is the other view's.
    """

    sets = ("target",)
    needs = ("key_similarities", "queue")
    detects = "target"

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        nearest = tf.equal(
            likeness(batch, batch.inputs.key_similarities, 1.0), 0.0
        )  # several, if they are equally near
        return soft_targets(treatment, batch, tf.cast(nearest, tf.float32))
