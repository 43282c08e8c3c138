"""The acceptance rate against arithmetic by hand."""

import numpy as np
import pytest

from ifnd_tf.detection.schedule import acceptance_rate
from ifnd_tf.errors import UserError


@pytest.mark.parametrize(
    ("schedule", "values"),
    [  # at progress 0, 1/4, 1/2, 3/4, 1, from 0.2 to 0.8
        ("linear", [0.2, 0.35, 0.5, 0.65, 0.8]),
        ("cosine", [0.2, 0.2 + 0.3 * (1 - 0.5**0.5), 0.5, 0.5 + 0.3 * 0.5**0.5, 0.8]),
        ("step", [0.2, 0.35, 0.5, 0.65, 0.8]),
        ("constant", [0.8] * 5),
    ],
)
def test_acceptance_by_hand(schedule, values):
    got = [acceptance_rate(p, schedule, 0.2, 0.8) for p in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(got, values)


def test_step_holds_five_equally_long_steps():
    rates = [acceptance_rate(i / 100, "step", 0.0, 1.0) for i in range(100)]
    values, counts = np.unique(rates, return_counts=True)
    np.testing.assert_allclose(values, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(counts, [20] * 5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "constant"])
def test_acceptance_is_exact_at_the_end_monotone_and_clipped(schedule):
    rates = [acceptance_rate(p, schedule, 0.1, 0.7) for p in np.linspace(0, 1, 37)]
    assert rates[-1] == 0.7
    assert np.all(np.diff(rates) >= 0)
    assert acceptance_rate(-1, schedule, 0.1, 0.7) == rates[0]
    assert acceptance_rate(2, schedule, 0.1, 0.7) == 0.7


def test_acceptance_refuses_an_unknown_schedule():
    with pytest.raises(UserError, match="'exponential'"):
        acceptance_rate(0.5, "exponential", 0, 1)
