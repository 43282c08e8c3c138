"""Attraction of detected false negatives."""

import dataclasses

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, attracted


@dataclasses.dataclass(frozen=True)
class Attract(Rule):
    """`--treatment=attract`: candidates whose label agrees with the anchor's are positives.

    -1/|P| sum_{p in P} log( e^{s_p} / (e^{s+} + sum_j e^{s_j}) ), P the key and those candidates;
    the mean over the levels. A wrong detection adds a pull of 1/|P|. Sources: IFND (Chen et al.,
    ICLR 2022, arXiv 2106.03719), SupCon (Khosla et al. 2020, arXiv 2004.11362).
    """

    sets = ("target",)
    needs = ("labels",)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        return attracted(treatment, batch, batch.same) if batch.same else treatment
