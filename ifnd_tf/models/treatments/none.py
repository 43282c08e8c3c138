"""Plain InfoNCE."""

import dataclasses

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule


@dataclasses.dataclass(frozen=True)
class PlainInfoNCE(Rule):
    """`--treatment=none`: every candidate is a negative, detected or not.

    -log( e^{s+} / (e^{s+} + sum_j e^{s_j}) ). Sources: CPC (van den Oord et al. 2018, arXiv
    1807.03748), MoCo v2, SimCLR.
    """

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        return treatment
