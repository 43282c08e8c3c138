"""False negatives by the quantile of the teacher's similarities."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import setting, share
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.nearest_candidates import nearest
from ifnd_tf.models.rule import Batch, Rule, masked


@dataclasses.dataclass(frozen=True)
class TopQuantile(Rule):
    """`--treatment=fnd`: the candidates nearest to the teacher's key leave the sum.

    Weight 0 where t_j exceeds the row's quantile 1 - alpha, the sum scaled by M / kept. alpha = 0
    is InfoNCE. Source: the batch-wise baseline of GloFND (Balmaseda et al. 2025, arXiv 2502.20612;
    vibalcam/GloFND). Its defaults: alpha 0.01, from epoch 70 of 200 on.
    """

    needs = ("key_similarities", "epoch")
    detects = "pairs"
    alpha: float = setting(0.01, "Share of the candidates that is masked.", low=0, below=1)
    start: float = share(0.35, "Share of the epochs before the first mask.")
    rescale: bool = setting(True, "Whether the kept sum is scaled up to all candidates.")

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        similar = tf.where(batch.valid(), batch.inputs.key_similarities, float("-inf"))
        # How many similarities lie above the interpolated quantile. The small term undoes roundings
        # such as 0.01 * 300 = 3.0000000001.
        above = tf.math.ceil(self.alpha * (batch.num_valid - 1.0) - 1e-3)
        above = tf.where(batch.started(self.start), above, 0.0)
        treatment = treatment._replace(rescale=self.rescale or treatment.rescale)
        return masked(treatment, [nearest(similar, above)])
