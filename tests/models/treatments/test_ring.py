import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case


def ring(inner, outer):
    def formula(row):
        n = len(row.logits)
        now = 1 - (1 - outer) * min(1.0, row.epoch / max(1, row.epochs - 1))
        last = max(1, round(now * n))
        first = min(round(inner * n), last - 1)
        kept = np.zeros(n)
        kept[np.argsort(-row.logits)[first:last]] = 1.0
        return Treated(kept)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
@pytest.mark.parametrize("epoch", [0, 4, 9])
def test_equals_the_formula(how, epoch):
    given = case(epoch=epoch)
    assert_equals("ring:inner=0.1:outer=0.5", ring(0.1, 0.5), given, how)
    assert_equals("ring", ring(0.01, 0.1), given, how)


def test_the_whole_disc_is_info_nce():
    assert_same("ring:inner=0:outer=1", "none", case())
