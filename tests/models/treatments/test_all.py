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
from tests.conftest import make_strategy
from tests.models.test_contrastive import batch, fill, labels, moco, simclr
from tests.models.treatments import harness

FRAMEWORKS = {"moco": moco, "simclr": simclr}
OTHER = {"moco": "batch", "simclr": "queue"}
# Parameters by which a rule acts at once.
AT_ONCE = {
    "fnc": "fnc:views=2:most=64:threshold=0.6",
    "fnd": "fnd:start=0:alpha=0.3",
    "glofnd": "glofnd:start=0:alpha=0.3",
    "ring": "ring:inner=0.2:outer=0.5",
}
QUICK = {("glofnd", "simclr")}
STEPS = [
    pytest.param(name, framework, id=f"{name}-{framework}", marks=[] if quick else pytest.mark.slow)
    for name in names()
    for framework in FRAMEWORKS
    if OTHER[framework] not in declared(name).needs
    for quick in [(name, framework) in QUICK]
]
# XLA compiles the loss of every framework; around it the whole step of one, for each rule.
WHOLE = {
    (name, "simclr" if OTHER["simclr"] not in declared(name).needs else "moco") for name in names()
}


@pytest.mark.parametrize("name", names())
def test_a_rule_is_one_short_file_that_gives_its_source(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 80
    made = rule_class(name)
    assert f"`--treatment={name}`: " in made.__doc__ and "Source" in made.__doc__
    assert hash(made()) == hash(made()) and dataclasses.is_dataclass(made)
    assert inspect.signature(made).parameters.keys() == declared(name).parameters.keys()


def after_two_steps(name, framework, strategy, compiled):
    """Loss, masked share, projector, and what model and rule keep."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = FRAMEWORKS[framework](mode=AT_ONCE.get(name, name))
    model.pseudo_labels.assign(labels())
    if framework == "moco":
        fill(model)
    if model.label_confidence is not None:
        model.label_confidence.assign(np.random.default_rng(2).random(labels().shape))
    for kept, value in model.rule_state.items():
        if kept.endswith("threshold"):  # rounding decides beside the first one, 1
            value.assign(np.random.default_rng(1).uniform(0.2, 0.8, value.shape))

    def step(data):
        strategy.run(model.train_step, (data,))

    step = tf.function(step, jit_compile=True) if compiled == "xla" else step
    step = tf.function(step) if compiled == "graph" else step
    for seed in range(2):
        step(shared_out(batch(seed), strategy))
    found = {each: float(value) for each, value in model.get_metrics_result().items()}
    del found["embedding_std"]  # of each replica's own anchors
    found |= {each: value.numpy() for each, value in model.rule_state.items()}
    if framework == "moco":
        found["queue"] = model.queue.numpy()
    return found | {"projector": model.projector.get_weights()[0]}


def shared_out(data, strategy):
    """A batch as the replicas get it, a part each."""
    count = strategy.num_replicas_in_sync
    return {
        name: strategy.experimental_distribute_values_from_function(
            lambda context, value=value: tf.split(value, count)[context.replica_id_in_sync_group]
        )
        for name, value in data.items()
    }


@pytest.mark.distribution
@pytest.mark.parametrize(("name", "framework"), STEPS)
def test_a_step_is_the_same_eager_compiled_and_on_two_replicas(name, framework):
    one, two = make_strategy("default"), make_strategy("mirrored-2")
    expected = after_two_steps(name, framework, one, "no")
    assert all(np.all(np.isfinite(value)) for value in expected.values())
    if rule_class(name)().detects in ("pairs", "weights"):
        assert expected["masked_share"] > 0.01
    ways = [(two, "graph")]
    if (name, framework) in WHOLE:
        ways.append((one, "xla"))
    for strategy, compiled in ways:
        found = after_two_steps(name, framework, strategy, compiled)
        assert found.keys() == expected.keys()
        for each, value in expected.items():
            # Each replica takes its own share; their mean is not the share of all, but near it.
            near = 1e-2 if each == "masked_share" and strategy is two else 1e-5
            np.testing.assert_allclose(found[each], value, rtol=1e-4, atol=near, err_msg=each)


@pytest.mark.parametrize("name", [name for name in names() if "batch" not in declared(name).needs])
def test_an_empty_queue_leaves_a_loss_of_zero(name):
    given, (rule,) = harness.case(levels=1, empty=harness.M), rules(name)
    shape = [harness.B, *rule.state_shape(given.keys.shape[1])]
    state = {kept: np.full(shape, first) for kept, first in rule.state.items()}
    loss, (to_positive, to_logits) = harness.found(name, given, state=state)
    np.testing.assert_allclose(loss.per_anchor, np.zeros(harness.B), atol=1e-6)
    np.testing.assert_allclose(to_positive, np.zeros(harness.B), atol=1e-6)
    assert not np.any(to_logits)


def test_what_no_rule_needs_is_not_computed():
    plain = LossSettings(rules=rules("eliminate"))
    assert not plain.state and not plain.needs("key_similarities") and not plain.needs("epoch")
    products = {}
    for text in ("none", "eliminate", "sce"):
        model = moco(mode=text)
        step = tf.function(model.train_step).get_concrete_function(batch())
        products[text] = sum(op.type == "MatMul" for op in step.graph.get_operations())
    assert products["none"] == products["eliminate"] == products["sce"] - 1
