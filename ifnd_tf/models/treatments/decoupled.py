"""Decoupled contrastive learning."""

import dataclasses

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule


@dataclasses.dataclass(frozen=True)
class Decoupled(Rule):
    """`--treatment=decoupled`: the key leaves the sum in the denominator.

    -s+ + log sum_j e^{s_j}, so that an easy positive does not weaken the negatives. Source: DCL
    (Yeh et al., ECCV 2022, arXiv 2110.06848), as in lightly, with a --temperature of 0.1.
    """

    sets = ("sum",)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        return treatment._replace(key_in_sum=False)
