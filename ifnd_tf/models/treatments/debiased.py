"""Debiased contrastive learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, debiased


@dataclasses.dataclass(frozen=True)
class Debiased(Rule):
    """`--treatment=debiased`: the sum less the expected share of false negatives in it.

    Z = e^{s+} + max( (sum_j e^{s_j} - tau+ M e^{s+}) / (1 - tau+), M e^{-1/tau} ). tau+ = 0 is
    InfoNCE. It detects no pair. Source: Chuang et al. 2020 (arXiv 2007.00224; chingyaoc/DCL). Its
    defaults: tau+ 0.1, beside a --temperature of 0.5.
    """

    sets = ("sum",)
    positive_prior: float = setting(
        0.1, "tau+, the probability that a candidate is a positive.", low=0, below=1
    )

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        return debiased(treatment, batch, tf.constant(self.positive_prior))
