"""Attraction of detected false negatives."""

import dataclasses
import functools

import tensorflow as tf

from ifnd_tf.models.info_nce import Treatment, row_counts
from ifnd_tf.models.rule import Batch, Rule, reduced


@dataclasses.dataclass(frozen=True)
class Attract(Rule):
    """`--treatment=attract`: candidates whose label agrees with the anchor's are positives.

    -1/|P| sum_{p in P} log( e^{s_p} / (e^{s+} + sum_j e^{s_j}) ), P the key and those candidates;
    the mean over the levels. A wrong detection adds a pull of 1/|P|. Sources: IFND (Chen et al.,
    ICLR 2022, arXiv 2106.03719), SupCon (Khosla et al. 2020, arXiv 2004.11362).
    """

    sets = ("target",)

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        if not batch.same:
            return treatment
        found = [functools.partial(reduced, tf.logical_and, p, batch.valid) for p in batch.same]
        shares = 1.0 / (len(found) * (1.0 + row_counts(found)))

        def targets(x: tf.Tensor) -> tf.Tensor:
            levels = zip(found, tf.unstack(shares[:, :, None], len(found)), strict=True)
            return tf.add_n([tf.where(pairs(), share * x, 0.0) for pairs, share in levels])

        key_target = tf.reduce_sum(shares, axis=0)
        return treatment._replace(key_target=key_target, targets=targets, attracted=batch.same)
