"""The front of the forms that no other beats."""

from __future__ import annotations

import random

import pytest

from wellread.compress import pareto


def test_the_front_is_what_nothing_beats():
    draw = random.Random(0)
    for _ in range(50):
        rows = [
            {"name": str(number), "score": draw.randrange(5), "bytes": draw.randrange(5)}
            for number in range(8)
        ]
        beaten = {
            one["name"]
            for one in rows
            for other in rows
            if (other["score"], -other["bytes"]) != (one["score"], -one["bytes"])
            and other["score"] >= one["score"]
            and other["bytes"] <= one["bytes"]
        }
        assert pareto.front(rows, "bytes") == {one["name"] for one in rows} - beaten


def test_more_speed_is_better():
    rows = [{"name": "slow", "score": 1.0, "speed": 1.0}, {"name": "fast", "score": 1.0, "speed": 2.0}]
    assert pareto.front(rows, "speed") == {"fast"}


def test_speed_is_a_geometric_mean():
    assert pareto.speed([{"ratio": 1.0}, {"ratio": 4.0}]) == pytest.approx(2.0)
