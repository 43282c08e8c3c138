import numpy as np
import pytest

from tests.models.treatments import harness
from tests.models.treatments.harness import B, Treated, assert_equals, case

WIDTH = 5


def memory(views, seed=1):
    """The keys of the last epochs, float32 [B, views, D]; the anchor 0 has none yet."""
    rows = np.random.default_rng(seed).normal(size=(B, views, WIDTH))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    rows[0] = 0.0
    return {"fnc_support": rows}


def fnc(given, state, most, threshold, attract=True):
    """google-research/fnc's find_false_negatives: the top k of the largest over support views."""
    place = {row.example: b for b, row in enumerate(given.rows())}

    def formula(row):
        b = place[row.example]
        support = [given.keys[b], *state["fnc_support"][b][:-1]]
        alike = np.array([max(v @ n for v in support) for n in row.vectors])
        found = [j for j in np.argsort(-alike)[:most] if alike[j] > threshold]
        weights, targets = np.ones(len(alike)), np.zeros(1 + len(alike))
        if not attract:
            weights[found] = 0.0
            return Treated(weights)
        targets[[0, *(1 + j for j in found)]] = 1.0 / (1 + len(found))
        return Treated(weights, targets)

    return formula


@pytest.mark.parametrize("how", harness.HOWS)
def test_equals_the_formula(how):
    given, state = case(), memory(8)
    assert_equals("fnc", fnc(given, state, 10, 0.7), given, how, state)
    state = memory(3)
    text = "fnc:views=3:most=4:threshold=0.4"
    assert_equals(text, fnc(given, state, 4, 0.4), given, how, state)
    eliminate = fnc(given, state, 4, 0.4, attract=False)
    assert_equals(f"{text}:attract=false", eliminate, given, how, state)


def test_the_key_enters_the_memory_and_the_oldest_one_leaves():
    given, state = case(), memory(3)
    after = harness.found("fnc:views=3", given, "xla", state)[0].state["fnc_support"]
    expected = np.concatenate([given.keys[:, None], state["fnc_support"][:, :-1]], axis=1)
    np.testing.assert_allclose(after, expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["fnc:most=0", "fnc:threshold=1"])
def test_no_false_negative_is_info_nce(text):
    given, state = case(), memory(8)
    plain, ours = harness.found("none", given), harness.found(text, given, state=state)
    np.testing.assert_allclose(ours[0].per_anchor, plain[0].per_anchor, rtol=1e-5)
    np.testing.assert_allclose(ours[1][1], plain[1][1], atol=3e-6)


def test_without_its_state_it_is_refused():
    with pytest.raises(ValueError, match="expected fnc_support"):
        harness.found("fnc", case())
