"""Adaptive soft contrastive learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment, row_sums
from ifnd_tf.models.rule import Batch, Rule, likeness, soft_targets


@dataclasses.dataclass(frozen=True)
class AdaptiveTargets(Rule):
    """`--treatment=ascl`: soft targets as far as the teacher's similarities are certain.

    With p = softmax_j(t_j / T_m), its entropy H and certainty c = 1 - H / log M: 1 on the key and
    min(1, K c p_j) on the candidates, divided by their sum. K = 0 is InfoNCE. Source: ASCL (Feng
    and Patras, ICPR 2022, arXiv 2207.11163; MrChenFeng/ASCL_ICPR2022). Its defaults: T_m 0.05,
    K 1 (5 on CIFAR-100).
    """

    sets = ("target",)
    needs = ("key_similarities",)
    detects = "target"
    teacher_temperature: float = setting(0.05, "T_m, divides the teacher's cosines.", above=0)
    neighbours: float = setting(1.0, "K, how many neighbours are expected.", low=0)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        alike = likeness(batch, batch.inputs.key_similarities, self.teacher_temperature)
        terms = tf.exp(alike)
        sums = tf.maximum(row_sums(terms), 1.0)  # the nearest candidate's term is 1
        # -sum p log p, without a logarithm for each pair. The maximum avoids 0 * -inf = NaN.
        entropy = tf.math.log(sums) - row_sums(terms * tf.maximum(alike, -1e3)) / sums
        # At least log 2: a single candidate, with entropy 0, would divide by log 1 = 0.
        most = tf.math.log(tf.maximum(batch.num_valid, 2.0))
        certainty = tf.maximum(1.0 - entropy / most, 0.0)
        raw = tf.minimum((self.neighbours * certainty / sums)[:, None] * terms, 1.0)
        mass = row_sums(raw)
        return soft_targets(treatment, batch, raw, mass / (1.0 + mass))
