"""Hierarchical contrastive selective coding: the selection of negatives."""

import dataclasses
import functools

import tensorflow as tf

from ifnd_tf.models.info_nce import Pairs, Treatment
from ifnd_tf.models.rule import Batch, Rule, weighed


@dataclasses.dataclass(frozen=True)
class SelectedNegatives(Rule):
    """`--treatment=hcsc`: candidates of the anchor's label count less, the more confident it is.

    Weight 1 - p_j, with p_j the confidence of j's label (softmax of its similarities to all
    centroids, at its own) where that is the anchor's label, else 0; the mean over the levels.
    Confidence 1 is `eliminate`. Source: HCSC (Guo et al., CVPR 2022, arXiv 2202.00455;
    gyfastas/HCSC), which draws: j is left out with the probability that its softmax, with a
    temperature for each cluster, gives the anchor's cluster. Here the weight is the expectation of
    the draws, the one temperature is --confidence_temperature, and j's small probabilities of
    other clusters are left out. Its defaults: K 3000, 2000, 1000, as by --hierarchy=nested.
    """

    needs = ("labels", "confidence")
    detects = "weights"

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        if not batch.same:
            return treatment

        def kept(pairs: Pairs, confidence: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            return tf.where(pairs(), (1.0 - confidence)[None, :] * x, x)

        levels = zip(batch.same, tf.unstack(batch.inputs.confidence), strict=True)
        return weighed(treatment, [functools.partial(kept, *level) for level in levels])
