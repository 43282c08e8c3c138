import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.treatments import harness
from tests.models.treatments.harness import Treated, assert_equals, assert_same, case


def fnd(alpha, rescale=True):
    def formula(row):
        # 1 - 0.8 < 0.2: the quantile may be a last bit below the cosine that it is.
        kept = row.teacher <= np.quantile(row.teacher, 1 - alpha) + 1e-7
        scale = len(kept) / kept.sum() if rescale else 1.0
        return Treated(kept.astype(float), scale=scale)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    assert_equals("fnd:alpha=0.3", fnd(0.3), case(), how)
    assert_equals("fnd:alpha=0.5:rescale=false", fnd(0.5, rescale=False), case(1), how)
    assert_equals("fnd", fnd(0.01), case(1), how)  # of 21 the nearest one


@settings(max_examples=25)
@given(seed=st.integers(0, 99), percent=st.integers(0, 99), empty=st.integers(0, 20))
def test_as_many_as_the_quantile_says(seed, percent, empty):
    some = case(seed, empty=empty)
    expected = [np.mean(fnd(percent / 100)(row).weights == 0) for row in some.rows()]
    share = harness.found(f"fnd:alpha={percent / 100}", some)[0].masked_share
    np.testing.assert_allclose(share, np.mean(expected), rtol=1e-5)


def test_no_share_and_too_early_are_info_nce():
    assert_same("fnd:alpha=0", "none", case())
    assert_same("fnd:alpha=0.3:start=0.6", "none", case(epoch=5, epochs=10))


@pytest.mark.parametrize("rescale", [True, False])
def test_a_pair_is_masked_by_label_or_by_similarity(rescale):
    def formula(row):
        kept = (fnd(0.3)(row).weights > 0) & ~row.same[0]
        return Treated(kept.astype(float), scale=len(kept) / kept.sum() if rescale else 1.0)

    text = f"eliminate,fnd:alpha=0.3:rescale={rescale}"
    assert_equals(text, formula, case(4, levels=1))
