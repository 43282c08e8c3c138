import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case, softmax


def sce(lam, temperature):
    def formula(row):
        soft = softmax(row.teacher / temperature)
        return Treated(np.ones(len(soft)), np.array([lam, *((1 - lam) * soft)]))

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("sce", sce(0.5, 0.07), case(), how)
    assert_equals("sce:lam=0.2:teacher_temperature=0.3", sce(0.2, 0.3), case(1), how)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), temperature=st.floats(0.02, 2.0))
def test_a_target_on_the_key_alone_is_info_nce(seed, temperature):
    assert_same(f"sce:lam=1:teacher_temperature={temperature}", "none", case(seed))


@pytest.mark.parametrize("how", harness.HOWS)
def test_soft_targets_beside_the_masks_of_labels(how):
    given = case(2, levels=1)

    def formula(row):
        return sce(0.5, 0.07)(row)._replace(weights=np.where(row.same[0], 0.0, 1.0))

    assert_equals("eliminate,sce", formula, given, how)
    assert_same("eliminate,sce", "sce,eliminate", given)
