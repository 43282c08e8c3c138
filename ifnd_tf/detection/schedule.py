"""How the acceptance rate and the learning rate move over training."""

import math

import keras
import tensorflow as tf

from ifnd_tf.errors import UserError

ACCEPTANCE = ("linear", "cosine", "step", "constant")

# Levels of the "step" schedule. Few enough that each holds for many refreshes, so that the
# encoder settles on one set of labels before the next grows.
STEPS = 5


def acceptance_rate(progress: float, schedule: str, start: float, end: float) -> float:
    """The share r of labels to accept (method, step 4: r grows while training).

    With p the progress, r = start + (end - start) * g(p), where g is
        linear: p, the paper's;
        cosine: (1 - cos(pi p)) / 2, slow at both ends;
        step: floor(5 p) / 4 up to 1, five equally long steps from start to end;
        constant: 1, that is `end` throughout; `start` is not used.

    Args:
        progress: 0 at the end of warm-up to 1 at the last refresh; clipped to [0, 1].
        schedule: linear | cosine | step | constant.
        start: share at progress 0, in [0, 1].
        end: share at progress 1, in [0, 1].

    Returns:
        r in [0, 1], exactly `end` at progress 1.

    Raises:
        UserError: the schedule is unknown.
    """
    p = min(max(progress, 0.0), 1.0)
    if schedule == "linear":
        share = p
    elif schedule == "cosine":
        share = 0.5 - 0.5 * math.cos(math.pi * p)
    elif schedule == "step":
        share = min(math.floor(STEPS * p), STEPS - 1) / (STEPS - 1)
    elif schedule == "constant":
        share = 1.0
    else:
        raise UserError(
            f"Expected acceptance to be one of {', '.join(ACCEPTANCE)}. Received: {schedule!r}."
        )
    # This form, not start + (end - start) * share, is exact at both ends.
    return start * (1.0 - share) + end * share


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
                f"Expected the learning rate's warm-up to be shorter than the run of {steps} "
                f"steps. Received: {warmup_steps} steps of warm-up; lower "
                "learning_rate_warmup_epochs or raise epochs."
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
