"""Gaps by hand, and the bound."""

import pytest

from wellread.errors import UserError
from wellread.pretrain import guard


def test_gap_by_hand():
    assert guard.gap([2.0, 3.5, 2.5, 1.5]) == {
        "start": 2.0,
        "worst": 3.5,
        "end": 1.5,
        "depth": 1.5,
        "rise": -0.5,
    }
    assert guard.gap([1.0])["depth"] == 0


def test_curves_of_both_texts():
    records = [{"loss": 3.0, "general": {"loss": 1.0}}, {"loss": 2.0, "general": {"loss": 1.25}}]
    found = guard.curves(records)
    assert found["field"]["rise"] == -1
    assert found["general"]["depth"] == 0.25
    assert "general" not in guard.curves([{"loss": 3.0}])
    assert guard.curves([]) == {}


def test_beyond_the_bound_the_key_and_the_step_are_told():
    guard.check(1.5, 1.0, 0.5, 20, 10)
    with pytest.raises(UserError, match="step 20.*step 10") as caught:
        guard.check(1.51, 1.0, 0.5, 20, 10)
    assert caught.value.where == guard.KEY
