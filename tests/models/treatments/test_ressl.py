import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, case, softmax


def ressl(temperature):
    def formula(row):
        soft = softmax(row.teacher / temperature)
        return Treated(np.ones(len(soft)), np.array([0.0, *soft]), key_in_sum=False)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("ressl", ressl(0.04), case(), how)
    assert_equals("ressl:teacher_temperature=0.3", ressl(0.3), case(1), how)
