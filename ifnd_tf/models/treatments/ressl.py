"""Relational self-supervised learning."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment, row_sums
from ifnd_tf.models.rule import Batch, Rule, soft_targets, softmax


@dataclasses.dataclass(frozen=True)
class Relations(Rule):
    """`--treatment=ressl`: the student repeats the teacher's relations to the candidates.

    Targets softmax_j(t_j / T_m) over the candidates alone, and no key in the sum: it takes no part.
    Source: ReSSL (Zheng et al., NeurIPS 2021, arXiv 2107.09282; mingkai-zheng/ReSSL). Its default:
    T_m 0.04, beside a --temperature of 0.1. Its teacher sees a weakly augmented view, which is not
    done here: the key's view is augmented like the query's.
    """

    sets = ("target", "sum")
    needs = ("teacher", "queue")
    detects = "target"
    teacher_temperature: float = setting(0.04, "T_m, divides the teacher's cosines.", above=0)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        alike = softmax(batch.teacher / self.teacher_temperature, batch.valid())
        alone = tf.equal(row_sums(alike), 0.0)  # while the queue is empty, the loss is 0
        treated = soft_targets(treatment, batch, alike)
        return treated._replace(key_in_sum=False, key_target=tf.where(alone, 1.0, 0.0))
