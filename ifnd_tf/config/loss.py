"""Settings of the loss."""

import dataclasses

from ifnd_tf.config.setting import setting


@dataclasses.dataclass(frozen=True)
class Loss:
    """Loss: what becomes of a false negative."""

    loss: str = setting(
        "eliminate",
        "Detected false negatives. eliminate: masked; attract: positives. Elimination is the "
        "stable one when labels are noisy.",
        ("eliminate", "attract"),
    )
    rescale_negatives: bool = setting(
        False,
        "Scale the sum over the kept negatives to the full count (eliminate only), unlike IFND.",
    )
    level_combination: str = setting(
        "mean",
        "mean: average the losses of the L levels, as IFND; union: one loss, in which a pair "
        "detected at any level is a false negative. union detects more pairs, so it needs every "
        "level to be precise.",
        ("mean", "union"),
    )
