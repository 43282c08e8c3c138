"""Negatives from a ring of similarities."""

import dataclasses

import tensorflow as tf

from ifnd_tf.config.setting import share
from ifnd_tf.errors import UserError
from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.nearest_candidates import nearest
from ifnd_tf.models.rule import Batch, Rule, masked


@dataclasses.dataclass(frozen=True)
class Ring(Rule):
    """`--treatment=ring`: only candidates between two ranks of similarity are negatives.

    Weight 1 for the candidates whose rank by s_j, as a share of all, lies in (inner, outer], else
    0: the nearest may be false negatives, the farthest teach nothing. The outer share falls from 1
    at the first epoch to `outer` at the last. inner = 0 and outer = 1 is InfoNCE. Source: Wu et
    al. 2021 (arXiv 2010.02037), read in a summary; the shares are ours.
    """

    needs = ("epoch",)
    detects = "pairs"
    inner: float = share(0.01, "Share of the nearest candidates to leave out.")
    outer: float = share(0.1, "Share of the nearest candidates to keep, at the last epoch.")

    def __post_init__(self) -> None:
        if self.inner >= self.outer:
            raise UserError(
                "--treatment=ring: expected an inner share below the outer. Received: "
                f"inner={self.inner}:outer={self.outer}."
            )

    def apply(self, batch: Batch, treatment: Treatment) -> Treatment:
        logits = tf.where(batch.valid(), batch.logits, float("-inf"))
        progress = tf.cast(batch.inputs.epoch, tf.float32) / max(1, batch.epochs - 1)
        outer = 1.0 - (1.0 - self.outer) * tf.minimum(progress, 1.0)
        last = tf.maximum(tf.round(outer * batch.num_valid), 1.0)
        first = tf.minimum(tf.round(self.inner * batch.num_valid), last - 1.0)
        disc, ring = nearest(logits, first), nearest(logits, last)
        return masked(treatment, [lambda: tf.logical_or(disc(), ~ring())])
