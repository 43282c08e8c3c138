"""Global false negative detection."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from ifnd_tf.config.setting import setting, share
from ifnd_tf.models.info_nce import Treatment, row_counts
from ifnd_tf.models.rule import Batch, Rule, masked


@dataclasses.dataclass(frozen=True)
class LearnedThresholds(Rule):
    """`--treatment=glofnd`: candidates above a threshold that each example learns leave the sum.

    Weight 0 where t_j > lambda_i, the sum scaled by M / kept. lambda_i, at first 1, descends the
    gradient alpha - share_j(t_j > lambda_i) by Adam (beta 0.9, 0.98; corrected by the epoch) and
    is kept in [-1, 1]. Source: GloFND (Balmaseda et al. 2025, arXiv 2502.20612; vibalcam/GloFND).
    Its defaults: alpha 0.01, learning rate 0.05, from epoch 70 of 200 on.
    """

    needs = ("key_similarities", "epoch")
    detects = "pairs"
    state: ClassVar[dict[str, float]] = {
        "glofnd_threshold": 1.0, "glofnd_mean": 0.0, "glofnd_square": 0.0
    }  # fmt: skip
    alpha: float = setting(0.01, "Share of the candidates to mask.", low=0, below=1)
    learning_rate: float = setting(0.05, "Adam's, for the thresholds.", above=0)
    start: float = share(0.35, "Share of the epochs before the first mask.")
    rescale: bool = setting(True, "Whether the kept sum is scaled up to all candidates.")

    def next_state(self, batch: Batch) -> dict[str, tf.Tensor]:
        threshold, mean, square = (batch.inputs.state[name] for name in self.state)
        above = tf.logical_and(batch.inputs.key_similarities > threshold[:, None], batch.valid())
        share = row_counts([lambda: above])[0] / tf.maximum(batch.num_valid, 1.0)
        # SimCLR's two views of an image have one threshold.
        same = tf.cast(batch.examples[0][:, None] == batch.examples[0][None, :], tf.float32)
        share = tf.linalg.matvec(same, share) / tf.reduce_sum(same, axis=1)
        gradient = self.alpha - share
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.98 * square + 0.02 * gradient**2
        epochs = tf.cast(batch.inputs.epoch, tf.float32) + 1.0
        corrected = mean / (1.0 - 0.9**epochs)
        size = tf.sqrt(square / (1.0 - 0.98**epochs)) + 1e-8
        moved = tf.clip_by_value(threshold - self.learning_rate * corrected / size, -1.0, 1.0)
        after = zip(self.state, (moved, mean, square), strict=True)
        learns = tf.logical_and(batch.started(self.start), batch.num_valid > 0.0)
        return {name: tf.where(learns, new, batch.inputs.state[name]) for name, new in after}

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        threshold = batch.inputs.state["glofnd_threshold"]
        treatment = treatment._replace(rescale=self.rescale or treatment.rescale)
        return masked(treatment, [lambda: batch.inputs.key_similarities > threshold[:, None]])
