"""Elimination from labels costs what its formula costs, and no more."""

import collections
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.models.info_nce import Treatment, info_nce
from ifnd_tf.models.loss import LossSettings, label_info_nce
from ifnd_tf.models.treatment_metrics import masked_share
from ifnd_tf.models.treatments import rules
from tests.models.treatments.harness import M, Treated, assert_equals, case
from tests.system.tpu import hlo


def eliminated(positive, logits, valid, index, labels):
    """Elimination written out: three masks, one exponential, the share of what is masked."""
    anchors = tf.where(labels[0] < 0, -2, labels[0])

    def same(level):
        return anchors[level][:, None] == labels[1][level][None, :]

    def pairs():
        return tf.logical_and(valid, ~(index[0][:, None] == index[1][None, :]))

    levels = [functools.partial(same, level) for level in range(3)]
    weights = [lambda x, level=level: tf.where(level(), 0.0, x) for level in levels]
    loss = info_nce(positive, logits, pairs, Treatment(weights))
    return loss, masked_share(pairs(), levels)


def treated(text, positive, logits, valid, index, labels):
    settings = LossSettings(rules=rules(text))
    run = label_info_nce.python_function
    return run(positive, logits, valid, index, labels, settings)[:2]


def program(loss):
    """How many operations of each kind and shape the compiled loss and its gradient have."""
    given = case(levels=3)
    arguments = (
        given.positive, given.logits, given.queued >= 0, (given.index, given.queued),
        (given.labels[:, given.index], given.labels[:, given.queued]),
    )  # fmt: skip

    @tf.function(jit_compile=True, autograph=False)
    def step(positive, logits, *rest):
        with tf.GradientTape() as tape:
            tape.watch([positive, logits])
            per_anchor, share = loss(positive, logits, *rest)
        return share, tape.gradient(per_anchor, [positive, logits])

    tensors = tf.nest.map_structure(tf.constant, arguments)
    text = step.experimental_get_compiler_ir(*tensors)(stage="optimized_hlo")
    every = itertools.chain(*hlo.computations(text).values())
    return collections.Counter(f"{each.kind} {each.op}" for each in every)


def test_the_rule_compiles_to_the_written_out_formula():
    ours = program(functools.partial(treated, "eliminate"))
    assert ours == program(eliminated)
    assert ours != program(functools.partial(treated, "none"))
    exponentials = sum(
        n for op, n in ours.items() if op.endswith(" exponential") and f",{M}]" in op
    )
    assert exponentials == sum(
        n
        for op, n in program(functools.partial(treated, "none")).items()
        if op.endswith(" exponential") and f",{M}]" in op
    )


@pytest.mark.parametrize("how", ["eager", "xla"])
def test_without_labels_it_is_info_nce(how):
    assert_equals("eliminate", lambda row: Treated(np.ones(len(row.logits))), case(), how)
