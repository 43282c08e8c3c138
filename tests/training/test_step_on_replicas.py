"""Training steps on two or four replicas against one: the same loss, weights, queue and keys."""

import numpy as np
import pytest

from ifnd_tf.stages import build
from ifnd_tf.training.loop import fit
from tests import tiny
from tests.conftest import make_strategy

pytestmark = pytest.mark.distribution

VARIANTS = {
    "moco-keys": {"detect_with": "keys"},
    "moco-rescaled": {"rescale_negatives": True},
    "moco-sce": {"treatment": "eliminate,sce"},
    "moco-teacher": {"treatment": "eliminate"},
    "simclr-teacher": {"framework": "simclr", "treatment": "eliminate"},
    "simclr-union": {"framework": "simclr", "level_combination": "union"},
    # Rules with state, with views of their own; all others: tests/models/treatments/test_all.py.
    "moco-attract": {"treatment": "attract"},
    "simclr-glofnd": {"framework": "simclr", "treatment": "glofnd:start=0:alpha=0.3"},
    "moco-fnc": {"treatment": "fnc:views=2:most=64:threshold=0.6"},
    "moco-ressl": {"treatment": "ressl"},
}
REPLICAS = {"moco-keys": 4, "simclr-union": 4}  # the others: 2
QUICK = {"moco-attract"}


def after_two_steps(variant, strategy):
    """Loss, masked share, weights and, where there are any, queue and kept keys.

    The labels are random and set beforehand, so that the second step masks what the first queued.
    """
    config = tiny.config(**VARIANTS[variant], num_clusters="4,8")
    strategy, source = make_strategy(strategy), tiny.splits().train
    teacher = None
    if variant.endswith("teacher"):
        teacher = np.random.default_rng(2).normal(size=[160, 6]).astype(np.float32)
        teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
        teacher[::5] = 0.0  # no rows
    width = 0 if teacher is None else teacher.shape[1]
    model = build.model(config, strategy, num_examples=160, teacher_width=width)
    model.pseudo_labels.assign(np.random.default_rng(0).integers(-1, 3, (2, 160)))
    if model.label_confidence is not None:
        model.label_confidence.assign(np.random.default_rng(2).random((2, 160)))
    for name, value in model.rule_state.items():
        if name.endswith("threshold"):  # rounding decides beside the first one, 1
            value.assign(np.random.default_rng(1).uniform(0.2, 0.8, 160))
    if model.true_labels is not None:
        model.true_labels.assign(source.labels)
    batches = build.training_batches(config, strategy, source, 0, teacher=teacher)
    fit(model, batches, steps_per_epoch=2, epochs=1)
    found = {name: float(value) for name, value in model.get_metrics_result().items()}
    del found["embedding_std"]  # of each replica's own anchors
    if model.loss_settings.detects in ("pairs", "weights") or "treatment" not in VARIANTS[variant]:
        assert found["masked_share"] > 0.01
    for name in ("queue", "queue_index", "teacher_queue", "memory"):
        if getattr(model, name, None) is not None:
            found[name] = getattr(model, name).numpy()
    found |= {name: value.numpy() for name, value in model.rule_state.items()}
    weights = [*model.encoder.get_weights(), *model.projector.get_weights()]
    return found | {"weights": np.concatenate([value.ravel() for value in weights])}


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in VARIANTS],
)
def test_steps_on_replicas_are_those_on_one(variant):
    expected = after_two_steps(variant, "default")
    found = after_two_steps(variant, f"mirrored-{REPLICAS.get(variant, 2)}")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Each replica takes its own share; their mean is not the share of all, but near it.
        close = 1e-2 if name == "masked_share" else 1e-4
        np.testing.assert_allclose(found[name], value, rtol=close, atol=1e-5, err_msg=name)
