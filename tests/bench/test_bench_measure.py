"""Alternation and ratios, with a clock that the test turns by hand."""

import pytest

from wellread.bench import measure
from wellread.bench.measure import KEYS, Timing, alone, alternate, as_baseline, compared, record


class Clock:
    """A clock that moves only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measure, "clock", made)
    return made


def timed(clock, name, calls, seconds, tokens=8):
    """A call that takes ``seconds(number)`` and notes its name and number."""

    def call(number):
        calls.append((name, number))
        began = measure.clock()
        clock.now += seconds(number)
        return {"step": Timing(measure.clock() - began, tokens, 6.0 * tokens)}

    return call


def test_the_baseline_stands_before_every_candidate_with_the_same_number(clock):
    calls, advanced = [], []
    pairs = alternate(
        timed(clock, "A", calls, lambda _: 1),
        {name: timed(clock, name, calls, lambda _: 1) for name in "BC"},
        rounds=2,
        warmup=1,
        advance=lambda: advanced.append(1),
    )
    assert calls == [(name, number) for number in range(3) for name in "ABAC"]
    assert len(advanced) == 6
    assert {name: len(of_one) for name, of_one in pairs.items()} == {"B": 2, "C": 2}


def test_the_warm_up_is_not_counted_and_the_ratio_is_that_of_neighbours(clock):
    calls = []
    slow_machine = {0: 50.0, 1: 1.0, 2: 3.0, 3: 1.0}  # of everything, the warm-up slowest
    pairs = alternate(
        timed(clock, "A", calls, lambda number: 6 * slow_machine[number]),
        {"B": timed(clock, "B", calls, lambda number: 2 * slow_machine[number])},
        rounds=3,
        warmup=1,
    )
    found = compared(pairs["B"], "step")
    assert found["ratio"] == 3 and found["spread"] == [3, 3] and found["ratio_of_totals"] == 3
    assert found["repetitions"] == 3
    assert found["seconds"] == 2 and found["baseline_seconds"] == 6
    assert found["tokens"] == 8 and found["flops"] == 48
    assert found["tokens_per_second"] == 4 and found["baseline_tokens_per_second"] == pytest.approx(8 / 6)
    assert as_baseline(pairs, "step") == alone([first["step"] for first, _ in pairs["B"]]) | {"ratio": 1.0}


def test_median_quartiles_and_totals_differ_where_one_pair_is_disturbed():
    seconds = [(2, 1), (4, 1), (3, 1), (100, 1), (5, 1)]
    pairs = [({"p": Timing(a, 7, 1.0)}, {"p": Timing(b, 7, 1.0)}) for a, b in seconds]
    found = compared(pairs, "p")
    assert found["ratio"] == 4 and found["spread"] == [3, 5]
    assert found["ratio_of_totals"] == 114 / 5


def test_a_ratio_is_of_seconds_per_token():
    pairs = [({"p": Timing(8.0, 40, 1.0)}, {"p": Timing(1.0, 10, 1.0)})]
    found = compared(pairs, "p")
    assert found["ratio"] == 2 and found["ratio_of_totals"] == 2
    assert found["bytes"] is None


def test_a_record_has_every_key_and_no_other():
    made = record("steps", "step", "step", 2, ratio=1.5)
    assert tuple(made) == KEYS and made["ratio"] == 1.5 and made["threads"] == 2 and made["spread"] is None
    with pytest.raises(ValueError, match="speedup"):
        record("steps", "step", "step", 2, speedup=1.5)
