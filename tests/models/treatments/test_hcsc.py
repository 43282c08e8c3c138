import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case


def hcsc(row):
    (same,), (confidence,) = row.same, row.confidence
    return Treated(np.array([1.0 - c if s else 1.0 for s, c in zip(same, confidence, strict=True)]))


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("hcsc", hcsc, case(levels=1), how)
    assert_equals("hcsc", hcsc, case(3, levels=1), how)


def test_levels_are_averaged():
    given = case(levels=2)
    each = [
        given._replace(labels=given.labels[[k]], confidence=given.confidence[[k]]) for k in (0, 1)
    ]
    losses = [harness.found("hcsc", one)[0].per_anchor for one in [given, *each]]
    np.testing.assert_allclose(losses[0], (losses[1] + losses[2]) / 2, rtol=1e-5)


def test_the_surest_labels_are_eliminated_and_unsure_ones_count_in_full():
    given = case(levels=2)
    sure = given._replace(confidence=np.ones_like(given.confidence))
    assert_same("hcsc", "eliminate", sure)
    assert_same("hcsc", "none", given._replace(confidence=np.zeros_like(given.confidence)))
    share = harness.found("eliminate", sure)[0].masked_share
    np.testing.assert_allclose(harness.found("hcsc", sure)[0].masked_share, share, rtol=1e-5)


def test_beside_masks_the_weights_multiply():
    given = case(levels=1)
    assert_same("hcsc,eliminate", "eliminate", given)


def test_without_labels_it_is_info_nce():
    assert_same("hcsc", "none", case())
