import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import assert_equals, assert_same, case
from tests.models.treatments.test_debiased import debiased


def hcl(beta, prior, level=None):
    def formula(row):
        kept = np.ones(len(row.logits)) if level is None else ~row.same[level]
        hard = kept * np.exp(beta * row.logits)
        return debiased(prior)(row)._replace(weights=hard / (hard.sum() / kept.sum()))

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
@pytest.mark.parametrize("gradient", [True, False])
def test_equals_the_formula(how, gradient):
    text = f"hcl:gradient={gradient}"
    assert_equals(text, hcl(1.0, 0.1), case(), how, through=gradient)
    assert_equals(f"{text}:beta=0.3", hcl(0.3, 0.1), case(3), how, through=gradient)


def test_without_concentration_it_is_debiased():
    assert_same("hcl:beta=0", "debiased", case())
    assert_same("hcl:beta=0:positive_prior=0", "none", case())


@pytest.mark.parametrize("text", ["eliminate,hcl", "hcl,eliminate"])
def test_the_mean_is_over_what_the_masks_leave(text):
    assert_equals(text, hcl(1.0, 0.1, level=0), case(1, levels=1), through=True)
