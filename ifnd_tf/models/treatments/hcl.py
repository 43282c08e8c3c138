"""Contrastive learning with hard negatives."""

import dataclasses
import functools

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment, row_sums
from ifnd_tf.models.rule import Batch, Rule, debiased


@dataclasses.dataclass(frozen=True)
class HardNegatives(Rule):
    """`--treatment=hcl`: similar candidates count more, in the debiased sum.

    w_j = e^{beta s_j} / mean_k e^{beta s_k}, then as `debiased`; beta = 0 is `debiased`. Source:
    Robinson et al. 2021 (arXiv 2010.04592; joshr17/HCL), where the gradient flows through the
    weights. Its defaults: beta 1, tau+ 0.1, beside a --temperature of 0.5.
    """

    sets = ("sum",)
    beta: float = setting(1.0, "Concentration on similar candidates.", low=0)
    positive_prior: float = setting(
        0.1, "tau+, the probability that a candidate is a positive.", low=0, below=1
    )
    gradient: bool = setting(True, "Whether the gradient flows through the weights.")

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        logits = tf.where(batch.valid(), self.beta * batch.logits, float("-inf"))
        terms = tf.exp(logits - tf.maximum(tf.reduce_max(logits, axis=1), -1e30)[:, None])
        valid = tf.cast(batch.valid(), tf.float32)
        weights, slopes = [], []
        for kept in treatment.weights:
            count = row_sums(kept(valid))
            mean = row_sums(kept(terms)) / tf.maximum(count, 1.0)
            hardness = kept(terms / tf.maximum(mean, 1e-30)[:, None])
            weights.append(functools.partial(tf.multiply, hardness))
            slopes.append(functools.partial(self._slopes, hardness, tf.maximum(count, 1.0)))
        treatment = treatment._replace(weights=weights, slopes=slopes if self.gradient else ())
        return debiased(treatment, batch, tf.constant(self.positive_prior))

    def _slopes(
        self, hardness: tf.Tensor, count: tf.Tensor, terms: tf.Tensor, total: tf.Tensor
    ) -> tf.Tensor:
        """d/ds_j of sum_k w_k e^{s_k}: w_j ((1 + beta) e^{s_j} - beta sum / M)."""
        return hardness * ((1.0 + self.beta) * terms - self.beta * total / count[:, None])
