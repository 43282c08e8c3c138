"""Soft targets from the similarities of another encoder's embeddings, given for each example.

The target of an anchor is (1 - w) of its treatment's own and w of softmax_j(t_j / T_m), where t_j
is the cosine of the given rows of the anchor and of candidate j. SCE (Denize et al., WACV 2023,
arXiv 2111.14585) takes the momentum encoder's similarities instead; with a fixed teacher it is
relational distillation (SEED, Fang et al., ICLR 2021, arXiv 2101.04731).
"""

import math
from typing import NamedTuple

import tensorflow as tf

from ifnd_tf.models.info_nce import Treatment
from ifnd_tf.models.rule import Batch, likeness, soft_targets

# Rows on host and devices: a unit vector's cosines change by less than 1e-3.
DTYPE = tf.bfloat16


class Teacher(NamedTuple):
    """How given embeddings become targets.

    Attributes:
        width: of the rows.
        weight: w in [0, 1], at the first epoch.
        schedule: "constant", or "linear" or "cosine": w falls to 0 at the last epoch.
        temperature: T_m > 0, divides the cosines.
    """

    width: int
    weight: float = 0.5
    schedule: str = "constant"
    temperature: float = 0.04


def similarities(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Cosines float32 [B, M] of unit rows [B, W] and [M, W]; -inf where either row is of zeros."""
    rows = [tf.cast(x, tf.float32) for x in (anchors, candidates)]
    first, second = (tf.reduce_any(x != 0.0, axis=1) for x in rows)
    known = tf.logical_and(first[:, None], second[None, :])
    return tf.where(known, tf.matmul(*rows, transpose_b=True), float("-inf"))


def weight(teacher: Teacher, batch: Batch) -> tf.Tensor:
    """w of the batch's epoch, float32 []."""
    progress = tf.cast(batch.inputs.epoch, tf.float32) / max(1, batch.epochs - 1)
    left = 1.0 - tf.minimum(progress, 1.0)
    return (
        teacher.weight
        * {
            "constant": tf.ones_like(left),
            "linear": left,
            "cosine": 0.5 - 0.5 * tf.cos(math.pi * left),
        }[teacher.schedule]
    )


def taught(treatment: Treatment, batch: Batch, teacher: Teacher) -> Treatment:
    """The treatment with part of its targets from the teacher.

    An anchor without a row, or without a candidate that has one, gives that part to the key.
    """
    part, own = weight(teacher, batch), treatment.targets
    terms = tf.exp(likeness(batch, batch.inputs.teacher_similarities, teacher.temperature))
    given = soft_targets(treatment, batch, terms)

    def targets(x: tf.Tensor) -> tf.Tensor:
        theirs = part * given.targets(x)  # type: ignore[misc]
        return theirs if own is None else (1.0 - part) * own(x) + theirs

    key_target = (1.0 - part) * treatment.key_target + part * given.key_target
    return treatment._replace(targets=targets, key_target=key_target)
