import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.treatments import harness
from tests.models.treatments.harness import TAU, Treated, assert_equals, assert_same, case

# Keys that are nearer than all candidates, and farther.
GIVEN = case(3)._replace(positive=np.array([4.9, 4.0, 0.0, -3.0], np.float32))


def debiased(prior):
    def formula(row):
        n = len(row.logits)
        return Treated(
            np.ones(n),
            scale=1 / (1 - prior),
            positive_share=prior * n / (1 - prior),
            floor=n * np.exp(-1 / TAU),
        )

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
@pytest.mark.parametrize("prior", [0.1, 0.02, 0.6])
def test_equals_the_formula(how, prior):
    assert_equals(f"debiased:positive_prior={prior}", debiased(prior), GIVEN, how)


def test_both_sides_of_the_floor_are_met():
    sides = set()
    for row in GIVEN.rows():
        made = debiased(0.1)(row)
        rest = made.scale * np.exp(row.logits).sum() - made.positive_share * np.exp(row.positive)
        sides.add(bool(rest > made.floor))
    assert sides == {True, False}


@settings(max_examples=15)
@given(seed=st.integers(0, 99))
def test_without_a_prior_it_is_info_nce(seed):
    assert_same("debiased:positive_prior=0", "none", case(seed))
