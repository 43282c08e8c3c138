import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, case


def decoupled(row):
    return Treated(np.ones(len(row.logits)), key_in_sum=False)


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("decoupled", decoupled, case(), how)
