import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.schedules import learning_rate
from wellread.settings import PretrainSettings


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
        *(of(name, steps, warmup, decay) for name in learning_rate.SCHEDULES),
    ):
        assert all(0 < factor <= 1 for factor in factors)
        peak = factors.index(max(factors))
        assert factors[: peak + 1] == sorted(factors[: peak + 1])
        assert factors[peak:] == sorted(factors[peak:], reverse=True)


def of(name, steps, warmup=0.2, decay=0.5):
    return [learning_rate.factor(name, step, steps, warmup, decay) for step in range(steps)]


def test_every_schedule_by_hand():
    """Ten steps, of which two warm up; the plateaus end after the fifth."""
    assert of("wsd", 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    falling = [1 - math.sqrt(part) for part in (0.2, 0.4, 0.6, 0.8)]
    assert of("wsd-sqrt", 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, *falling])
    halves = [0.5 * (1 + math.cos(math.pi * part / 8)) for part in range(8)]
    assert of("cosine", 10) == pytest.approx([0.5, 1, *halves])
    assert of("triangular", 10) == pytest.approx([0.5, 1, *(part / 8 for part in range(8, 0, -1))])


def test_the_default_is_warmup_stable_decay_to_the_bit():
    for step in range(97):
        old = learning_rate.warmup_stable_decay(step, 97, 0.06, 0.4)
        assert learning_rate.factor("wsd", step, 97, 0.06, 0.4) == old


def test_cosine_and_triangle_know_no_plateau():
    for name in ("cosine", "triangular"):
        assert of(name, 50, decay=0.1) == of(name, 50, decay=0.9)


def test_the_recipe_may_name_all_schedules_and_no_other():
    named = typing.get_args(PretrainSettings.model_fields["schedule"].annotation)
    assert set(named) == set(learning_rate.SCHEDULES)
