"""Negatives from a ring of similarities."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import share
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, Rule, masked, valid_counts


@dataclasses.dataclass(frozen=True)
class Ring(Rule):
    """`--treatment=ring`: only candidates between two ranks of similarity are negatives.

    Weight 1 for the candidates whose rank by s_j, as a share of all, lies in (inner, outer], else
    0: the nearest may be false negatives, the farthest teach nothing. The outer share falls from 1
    at the first epoch to `outer` at the last. inner = 0 and outer = 1 is InfoNCE. Source: Wu et
    al. 2021 (arXiv 2010.02037), read in a summary; the shares are ours.
    """

    needs = ("epoch",)
    inner: float = share(0.01, "Share of the nearest candidates to leave out.")
    outer: float = share(0.1, "Share of the nearest candidates to keep, at the last epoch.")

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        logits = tf.where(batch.valid(), batch.logits, float("-inf"))
        ranked = tf.sort(logits, axis=1, direction="DESCENDING")
        progress = tf.cast(batch.epoch, tf.float32) / max(1, batch.epochs - 1)
        outer = 1.0 - (1.0 - self.outer) * tf.minimum(progress, 1.0)
        count = valid_counts(batch)
        nearest, farthest = tf.round(self.inner * count), tf.maximum(tf.round(outer * count), 1.0)
        padded = tf.pad(ranked, [[0, 0], [1, 0]], constant_values=float("inf"))

        def at(rank: tf.Tensor) -> tf.Tensor:
            """The similarity of a rank [B], from 1; infinite at rank 0."""
            return tf.gather(padded, tf.cast(rank, tf.int32), axis=1, batch_dims=1)[:, None]

        upper, lower = at(tf.minimum(nearest, farthest - 1.0)), at(farthest)
        return masked(treatment, [lambda: tf.logical_or(logits >= upper, logits < lower)])
