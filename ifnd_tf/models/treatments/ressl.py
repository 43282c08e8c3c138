"""Relational self-supervised learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, likeness, soft_targets


@dataclasses.dataclass(frozen=True)
class Relations(Rule):
    """`--treatment=ressl`: the student repeats the teacher's relations to the candidates.

    Targets softmax_j(t_j / T_m) over the candidates alone; the key has no target and no term.
    Source: ReSSL (Zheng et al., NeurIPS 2021, arXiv 2107.09282; mingkai-zheng/ReSSL). Its defaults:
    T_m 0.04 and a weak view for the teacher, only cropped and flipped, beside a --temperature of
    0.1.
    """

    sets = ("target", "sum")
    needs = ("key_similarities", "queue")
    detects = "target"
    teacher_temperature: float = setting(0.04, "T_m, divides the teacher's cosines.", above=0)
    weak_keys: bool = setting(True, "Whether the key's view is only cropped and flipped.")

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        terms = tf.exp(likeness(batch, batch.inputs.key_similarities, self.teacher_temperature))
        # While the queue is empty, the loss is 0.
        return soft_targets(treatment, batch, terms)._replace(key_in_sum=False)
