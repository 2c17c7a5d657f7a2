"""How fast the forms of a model are, side by side."""

from __future__ import annotations

import pytest

from wellread.compress import pareto


def test_speed_is_a_geometric_mean():
    assert pareto.speed([{"ratio": 1.0}, {"ratio": 4.0}]) == pytest.approx(2.0)
