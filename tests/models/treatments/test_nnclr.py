import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, case


def nnclr(row):
    nearest = np.zeros(1 + len(row.logits))
    nearest[1 + np.argmax(row.teacher)] = 1.0
    return Treated(np.ones(len(row.logits)), nearest)


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("nnclr", nnclr, case(), how)
