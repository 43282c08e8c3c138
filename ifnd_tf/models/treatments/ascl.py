"""Adaptive soft contrastive learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment, row_sums
from ifnd_tf.models.rule import Batch, Rule, soft_targets, softmax, valid_counts


@dataclasses.dataclass(frozen=True)
class AdaptiveTargets(Rule):
    """`--treatment=ascl`: soft targets as far as the teacher's similarities are certain.

    With p = softmax_j(t_j / T_m), its entropy H and certainty c = 1 - H / log M: 1 on the key and
    min(1, K c p_j) on the candidates, divided by their sum. K = 0 is InfoNCE. Source: ASCL (Feng
    and Patras, ICPR 2022, arXiv 2207.11163; MrChenFeng/ASCL_ICPR2022). Its defaults: T_m 0.05,
    K 1 (5 on CIFAR-100).
    """

    sets = ("target",)
    needs = ("teacher",)
    detects = "target"
    teacher_temperature: float = setting(0.05, "T_m, divides the teacher's cosines.", above=0)
    neighbours: float = setting(1.0, "K, how many neighbours are expected.", low=0)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        alike = softmax(batch.teacher / self.teacher_temperature, batch.valid())
        entropy = -row_sums(tf.math.xlogy(alike, alike))
        # One candidate is certain, and log 1 = 0.
        most = tf.math.log(tf.maximum(valid_counts(batch), 2.0))
        certainty = tf.maximum(1.0 - entropy / most, 0.0)
        raw = tf.minimum(self.neighbours * certainty[:, None] * alike, 1.0)
        return soft_targets(treatment, batch, raw / (1.0 + row_sums(raw))[:, None])
