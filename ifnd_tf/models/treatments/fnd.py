"""False negatives by the quantile of the teacher's similarities."""

import dataclasses
import math

import tensorflow as tf

from ifnd_tf.config.setting import setting, share
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, masked, valid_counts


@dataclasses.dataclass(frozen=True)
class TopQuantile(Rule):
    """`--treatment=fnd`: the candidates nearest to the teacher's key leave the sum.

    Weight 0 where t_j exceeds the row's quantile 1 - alpha, the sum scaled by M / kept. alpha = 0
    is InfoNCE. Source: the batch-wise baseline of GloFND (Balmaseda et al. 2025, arXiv 2502.20612;
    vibalcam/GloFND). Its defaults: alpha 0.01, from epoch 70 of 200 on.
    """

    needs = ("teacher", "epoch")
    detects = "pairs"
    alpha: float = setting(0.01, "Share of the candidates that is masked.", low=0, below=1)
    start: float = share(0.35, "Share of the epochs before the first mask.")
    rescale: bool = setting(True, "Whether the kept sum is scaled up to all candidates.")

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        size = batch.teacher.shape[1]
        similar = tf.where(batch.valid(), batch.teacher, float("-inf"))
        largest, _ = tf.math.top_k(similar, min(size, math.ceil(self.alpha * (size - 1)) + 1))
        # The quantile lies between two similarities; those above it are so many. The nudge undoes
        # roundings such as 0.01 * 300 = 3.0000000001.
        above = tf.math.ceil(self.alpha * (valid_counts(batch) - 1.0) - 1e-3)
        above = tf.where(batch.started(self.start), tf.maximum(above, 0.0), 0.0)
        threshold = tf.gather(largest, tf.cast(above, tf.int32), axis=1, batch_dims=1)
        treatment = treatment._replace(rescale=self.rescale or treatment.rescale)
        return masked(treatment, [lambda: similar > threshold[:, None]])
