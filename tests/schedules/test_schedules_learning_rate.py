import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.schedules import learning_rate


def test_warmup_stable_decay_by_hand():
    factors = [learning_rate.warmup_stable_decay(step, 10, 0.2, 0.4) for step in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_warmup_and_decay_that_overlap_take_the_smaller():
    factors = [learning_rate.warmup_stable_decay(step, 4, 0.9, 1.0) for step in range(4)]
    assert factors == pytest.approx([0.25, 0.5, 0.5, 0.25])


def test_linear_by_hand():
    assert [learning_rate.linear(step, 5, 0.2) for step in range(5)] == pytest.approx([1, 1, 0.75, 0.5, 0.25])


def test_no_warmup_begins_at_the_peak():
    assert learning_rate.warmup_stable_decay(0, 10, 0.0, 0.5) == 1
    assert learning_rate.linear(0, 10, 0.0) == 1


def test_one_minus_sqrt_falls_faster_than_linear_at_first():
    arguments = (100, 0.1, 0.5)
    assert learning_rate.one_minus_sqrt(75, *arguments) == pytest.approx(1 - math.sqrt(0.5))
    assert learning_rate.warmup_stable_decay(75, *arguments) == pytest.approx(0.5)
    assert learning_rate.one_minus_sqrt(30, *arguments) == 1


def test_cosine_is_half_way_down_in_the_middle():
    assert learning_rate.cosine(55, 100, 0.1) == pytest.approx(0.5)


@given(st.integers(1, 500), st.floats(0, 0.99), st.floats(0.01, 1))
def test_factors_stay_in_bounds_rise_then_fall(steps, warmup, decay):
    for factors in (
        [learning_rate.warmup_stable_decay(step, steps, warmup, decay) for step in range(steps)],
        [learning_rate.linear(step, steps, warmup) for step in range(steps)],
        [learning_rate.cosine(step, steps, warmup) for step in range(steps)],
        [learning_rate.one_minus_sqrt(step, steps, warmup, decay) for step in range(steps)],
    ):
        assert all(0 < factor <= 1 for factor in factors)
        peak = factors.index(max(factors))
        assert factors[: peak + 1] == sorted(factors[: peak + 1])
        assert factors[peak:] == sorted(factors[peak:], reverse=True)
