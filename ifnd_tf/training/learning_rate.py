"""The schedule of the learning rate."""

import math

import keras
import tensorflow as tf

from ifnd_tf.errors import UserError


def encoder_rate(step: tf.Tensor, *, scale: float, frozen_steps: int) -> tf.Tensor:
    """The encoder's share of the learning rate: 0 for the first steps, then `scale`; float32 []."""
    return tf.where(step < frozen_steps, 0.0, scale)


@keras.saving.register_keras_serializable(package="ifnd_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to `peak`, then half a cosine to 0 (Loshchilov and Hutter, 2017).

    SimCLR's and, without warm-up, MoCo v2's schedule. At step t, with T steps of which W warm
    up: peak * (t + 1) / W before W, so that the first step learns something; after that
    peak * (1 + cos(pi (t - W) / (T - W))) / 2, which reaches 0 at t = T.

    Args:
        peak: largest learning rate, > 0.
        steps: T, steps of the whole run, > warmup_steps.
        warmup_steps: W >= 0.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int = 0):
        super().__init__()
        if not 0 <= warmup_steps < steps:
            raise UserError(
                "--learning_rate_warmup_epochs: expected a warm-up shorter than the run's "
                f"{steps} steps. Received: {warmup_steps} steps; lower it, or raise --epochs."
            )
        self.peak, self.steps, self.warmup_steps = float(peak), int(steps), int(warmup_steps)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """The learning rate at `step` (integer [], 0 for the first): float32 []."""
        step = tf.cast(step, tf.float32)
        warm = (step + 1.0) / max(self.warmup_steps, 1)
        passed = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        cosine = 0.5 + 0.5 * tf.cos(math.pi * tf.clip_by_value(passed, 0.0, 1.0))
        return self.peak * tf.where(step < self.warmup_steps, warm, cosine)

    def get_config(self) -> dict[str, float | int]:
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps}
