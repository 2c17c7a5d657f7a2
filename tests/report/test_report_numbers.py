"""Numbers for people."""

from __future__ import annotations

import pytest

from wellread.report import numbers


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (18120, "18,120"), (999_400, "999,400"), (999_999, "1.00 million"),
     (3_931_556, "3.93 million"), (25_600_000, "25.6 million"),
     (302_000_000, "302 million"), (1.05e11, "105 billion")],
)  # fmt: skip
def test_short(number, shown):
    assert numbers.short(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (461.8, "7 min 42 s"),
     (3599.9, "1 h 00 min"), (7384, "2 h 03 min")],
)  # fmt: skip
def test_duration(seconds, shown):
    assert numbers.duration(seconds) == shown


def test_scores_and_intervals():
    assert numbers.score(0.8412, "macro_f1") == "84.1" and numbers.score(0.8412, "pearson") == "0.841"
    assert numbers.score(None, "macro_f1") == "–"
    assert (
        numbers.interval([0.83, 0.85], "accuracy") == "[83.0, 85.0]"
        and numbers.interval(None, "accuracy") == ""
    )
    assert numbers.metric_name("macro_f1") == "macro F1 (%)" and numbers.metric_name("pearson") == "Pearson r"


def test_sizes_counts_and_lists():
    assert numbers.size(436_000_000) == "436 MB" and numbers.size(12) == "12 B"
    assert numbers.flops(6.12e14) == "612 TFLOP" and numbers.flops(2e22) == "20 ZFLOP"
    assert (
        numbers.plural(1, "class", "classes") == "1 class" and numbers.plural(1200, "seed") == "1,200 seeds"
    )
    assert numbers.listing(["a"]) == "a" and numbers.listing(["a", "b", "c"]) == "a, b and c"
    assert numbers.listing([]) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0004, "under 0.01 s"), (0.1907, "0.19 s"), (7.91, "7.9 s"), (9.97, "10.0 s"), (461.8, "7 min 42 s")],
)
def test_seconds(value, shown):
    assert numbers.seconds(value) == shown
