import numpy as np
import pytest

from ifnd_tf.models.treatments.glofnd import LearnedThresholds
from tests.models.treatments import harness
from tests.models.treatments.harness import B, Treated, assert_equals, case

STATE = {
    "glofnd_threshold": np.linspace(0.2, 0.8, B),
    "glofnd_mean": np.linspace(-0.1, 0.1, B),
    "glofnd_square": np.linspace(0.01, 0.2, B),
}
START = dict(LearnedThresholds.state)


def adam(row, threshold, mean, square, alpha=0.01, rate=0.05):
    """The step of vibalcam/GloFND, unimodal/sogclr/fnd.py, for one example."""
    gradient = alpha - np.mean(row.teacher > threshold)
    mean, square = 0.9 * mean + 0.1 * gradient, 0.98 * square + 0.02 * gradient**2
    hat = mean / (1 - 0.9 ** (row.epoch + 1))
    size = np.sqrt(square / (1 - 0.98 ** (row.epoch + 1))) + 1e-8
    return np.clip(threshold - rate * hat / size, -1, 1), mean, square


def glofnd(given, state, rescale=True, **options):
    rows = {row.example: b for b, row in enumerate(given.rows())}

    def formula(row):
        b = rows[row.example]
        threshold, _, _ = adam(row, *(state[name][b] for name in STATE), **options)
        kept = row.teacher <= threshold
        return Treated(kept.astype(float), scale=len(kept) / kept.sum() if rescale else 1.0)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    given = case()
    assert_equals("glofnd", glofnd(given, STATE), given, how, STATE)
    text = "glofnd:alpha=0.2:learning_rate=0.3:rescale=false"
    expected = glofnd(given, STATE, rescale=False, alpha=0.2, rate=0.3)
    assert_equals(text, expected, given, how, STATE)


def test_the_state_moves_by_adam_and_the_new_threshold_masks():
    given = case()
    after = harness.found("glofnd", given, "xla", STATE)[0].state
    assert set(after) == set(STATE)
    expected = [
        adam(row, *(STATE[name][b] for name in STATE)) for b, row in enumerate(given.rows())
    ]
    for name, values in zip(STATE, np.transpose(expected), strict=True):
        np.testing.assert_allclose(after[name], values, rtol=1e-5)


def test_two_rows_of_an_example_are_averaged():
    given = case()
    given = given._replace(index=np.array([3, 3, 5, 5], np.int32))
    state = {name: np.repeat(value[:2], 2) for name, value in STATE.items()}
    after = harness.found("glofnd", given, "eager", state)[0].state["glofnd_threshold"]
    rows = given.rows()
    both = rows[0]._replace(teacher=np.concatenate([rows[0].teacher, rows[1].teacher]))
    expected = adam(both, *(state[name][0] for name in STATE))[0]
    np.testing.assert_allclose(after[:2], [expected, expected], rtol=1e-5)


def test_nothing_moves_before_the_start_or_while_the_queue_is_empty():
    first = {name: np.full(B, value) for name, value in START.items()}
    for given in (case(epoch=1), case(empty=harness.M)):
        loss, gradients = harness.found("glofnd", given, state=first)
        for name, value in loss.state.items():
            np.testing.assert_array_equal(value, first[name].astype(np.float32))
        assert np.all(np.isfinite(gradients[1]))


def test_thresholds_learn_the_quantile():
    given, state = case(), {name: np.full(B, value) for name, value in START.items()}
    for _ in range(200):
        loss, _ = harness.found("glofnd:alpha=0.25:learning_rate=0.02", given, "xla", state)
        state = {name: value.numpy() for name, value in loss.state.items()}
    shares = [
        np.mean(row.teacher > state["glofnd_threshold"][b]) for b, row in enumerate(given.rows())
    ]
    np.testing.assert_allclose(shares, 0.25, atol=0.08)
    assert 0.15 < loss.masked_share < 0.35
