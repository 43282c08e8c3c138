import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case, softmax


def ascl(temperature, neighbours):
    def formula(row):
        soft = softmax(row.teacher / temperature)
        entropy = -sum(p * np.log(p) for p in soft)
        certainty = 1 - entropy / np.log(len(soft))
        raw = [1.0, *(min(1.0, neighbours * certainty * p) for p in soft)]
        return Treated(np.ones(len(soft)), np.array(raw) / sum(raw))

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("ascl", ascl(0.05, 1.0), case(), how)
    assert_equals("ascl:neighbours=5:teacher_temperature=0.1", ascl(0.1, 5.0), case(1), how)


def test_no_expected_neighbour_is_info_nce():
    assert_same("ascl:neighbours=0", "none", case())


@pytest.mark.parametrize("empty", [harness.M, harness.M - 1])
def test_a_queue_of_none_or_one_has_finite_gradients(empty):
    loss, gradients = harness.found("ascl", case(empty=empty))
    assert np.all(np.isfinite(loss.per_anchor)) and np.all(np.isfinite(gradients[1]))
