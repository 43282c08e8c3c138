"""False negative cancellation."""

import dataclasses
import functools
from typing import ClassVar

import tensorflow as tf

from ifnd_tf.config.setting import setting
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.nearest_candidates import nearest
from ifnd_tf.models.rule import Batch, Rule, attracted, masked


@dataclasses.dataclass(frozen=True)
class SupportViews(Rule):
    """`--treatment=fnc`: candidates that are near to any of several views of the anchor.

    F = the `most` candidates with the largest max_v cos(v, n_j), over the support views v of the
    anchor's image, of those above `threshold`. F is attracted, with target 1/|P| on the key and F,
    or eliminated. Source: FNC (Huynh et al., WACV 2022, arXiv 2011.11765; google-research/fnc). Its
    defaults: 8 views, most 10, threshold 0.7, attraction, beside --temperature=0.1, a queue of 16
    batches and --key_momentum=0.999. FNC encodes the support views anew in every step; here they
    are the key and the image's keys of the last epochs, kept in 4 * views * D bytes an image.
    """

    sets = ("target",)
    needs = ("embeddings", "queue")
    detects = "pairs"
    state: ClassVar[dict[str, float]] = {"fnc_support": 0.0}
    views: int = setting(8, "Support views, with the key.", low=1)
    most: int = setting(10, "How many candidates may be false negatives.", low=0)
    threshold: float = setting(0.7, "Least cosine of a false negative.", low=0, high=1)
    attract: bool = setting(True, "Attract them; false: eliminate them.")

    def state_shape(self, width: int) -> tuple[int, ...]:
        return (self.views, width)

    def next_state(self, batch: Batch) -> dict[str, tf.Tensor]:
        keys, before = batch.inputs.embeddings[0], batch.inputs.state["fnc_support"]
        return {"fnc_support": tf.concat([keys[:, None], before[:, :-1]], axis=1)}

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        support = tf.unstack(batch.inputs.state["fnc_support"], axis=1)  # the first one is the key
        cosines = [
            tf.matmul(view, batch.inputs.embeddings[1], transpose_b=True) for view in support
        ]
        similar = functools.reduce(tf.maximum, cosines)
        similar = tf.where(batch.valid() & (similar > self.threshold), similar, float("-inf"))
        level = [nearest(similar, tf.fill(batch.positive.shape, float(self.most)))]
        return attracted(treatment, batch, level) if self.attract else masked(treatment, level)
