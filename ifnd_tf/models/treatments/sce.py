"""Similarity contrastive estimation."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting, share
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, likeness, soft_targets


@dataclasses.dataclass(frozen=True)
class SimilarityTargets(Rule):
    """`--treatment=sce`: part of the target lies where the teacher sees similarity.

    Targets: lam on the key, (1 - lam) softmax_j(t_j / T_m) on the candidates. lam = 1 is InfoNCE.
    Source: SCE (Denize et al., WACV 2023, arXiv 2111.14585; juliendenize/eztorch). Its defaults:
    lam 0.5, T_m 0.07, beside a --temperature of 0.1.
    """

    sets = ("target",)
    needs = ("key_similarities",)
    detects = "target"
    lam: float = share(0.5, "The key's part of the target.")
    teacher_temperature: float = setting(0.07, "T_m, divides the teacher's cosines.", above=0)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        terms = tf.exp(likeness(batch, batch.inputs.key_similarities, self.teacher_temperature))
        return soft_targets(treatment, batch, terms, 1.0 - self.lam)
