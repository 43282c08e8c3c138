"""What holds for every rule, found by its file."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from ifnd_tf.config.treatments import FOLDER, declared, names
from ifnd_tf.models.loss import LossSettings
from ifnd_tf.models.treatments import rule_class, rules
from tests.models.test_contrastive import batch, fill, labels, moco, simclr

FRAMEWORKS = {"moco": moco, "simclr": simclr}
OTHER = {"moco": "batch", "simclr": "queue"}
QUICK = {("glofnd", "simclr"), ("sce", "moco")}
STEPS = [
    pytest.param(name, framework, id=f"{name}-{framework}", marks=[] if quick else pytest.mark.slow)
    for name in names()
    for framework in FRAMEWORKS
    if OTHER[framework] not in declared(name).needs
    for quick in [(name, framework) in QUICK]
]


@pytest.mark.parametrize("name", names())
def test_a_rule_is_one_short_file_that_gives_its_source(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 80
    made = rule_class(name)
    assert f"`--treatment={name}`: " in made.__doc__ and "Source" in made.__doc__
    assert hash(made()) == hash(made()) and dataclasses.is_dataclass(made)
    assert inspect.signature(made).parameters.keys() == declared(name).parameters.keys()


@pytest.mark.parametrize(("name", "framework"), STEPS)
def test_a_step_is_the_same_eager_and_compiled(name, framework):
    results = []
    for compiled in (False, True):
        keras.utils.set_random_seed(0)
        model = FRAMEWORKS[framework](mode=name)
        model.pseudo_labels.assign(labels())
        if framework == "moco":
            fill(model)
        step = tf.function(model.train_step, jit_compile=True) if compiled else model.train_step
        losses = [float(step(batch(seed))["loss"]) for seed in range(2)]
        assert np.all(np.isfinite(losses))
        results.append((losses, model.projector.get_weights()[0]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)


def test_what_no_rule_needs_is_not_computed():
    plain = LossSettings(rules=rules("eliminate"))
    assert not plain.state and not plain.needs("key_similarities") and not plain.needs("epoch")
    products = {}
    for text in ("none", "eliminate", "sce"):
        model = moco(mode=text)
        step = tf.function(model.train_step).get_concrete_function(batch())
        products[text] = sum(op.type == "MatMul" for op in step.graph.get_operations())
    assert products["none"] == products["eliminate"] == products["sce"] - 1
