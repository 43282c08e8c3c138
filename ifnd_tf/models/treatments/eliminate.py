"""Elimination of detected false negatives."""

import dataclasses

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, masked


@dataclasses.dataclass(frozen=True)
class Eliminate(Rule):
    """`--treatment=eliminate`: candidates whose label agrees with the anchor's leave the sum.

    -log( e^{s+} / (e^{s+} + sum_{j not masked} e^{s_j}) ), the mean over the levels. A wrong
    detection costs a lost push, nothing else. Source: IFND (Chen et al., ICLR 2022, arXiv
    2106.03719).
    """

    needs = ("labels",)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        return masked(treatment, batch.same) if batch.same else treatment
