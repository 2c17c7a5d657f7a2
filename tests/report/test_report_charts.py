"""Charts: well-formed, inside their frame, and where the numbers say."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from wellread.report import charts
from wellread.report.charts import Frame, Series, Style

BLUE = Style("s0")
FRAME = Frame("Title", "What it shows", "x", "y")
finite = st.floats(-1e6, 1e6, allow_nan=False)


def test_ticks_are_round_and_within():
    assert charts.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert charts.ticks(0.0, 1.0, 4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert charts.ticks(3, 3, 5) == [3]


@given(finite, st.floats(1e-3, 1e6))
def test_ticks_stay_within_for_any_range(low, span):
    found = charts.ticks(low, low + span, 5)
    slack = 1e-6 * max(abs(low), span)
    assert 1 <= len(found) <= 8
    assert all(low - slack <= tick <= low + span + slack for tick in found)
    steps = [b - a for a, b in zip(found, found[1:], strict=False)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=40))
def test_any_line_can_be_drawn(points):
    picture = charts.line_chart(FRAME, [Series("a", BLUE, points, [(x, y - 1, y + 1) for x, y in points])])
    etree.fromstring(picture)
    assert "nan" not in picture and "inf" not in picture


def test_points_land_where_they_belong():
    frame = Frame("t", "d", "x", "y", x_ticks=[0, 10], y_range=(0.0, 1.0))
    picture = charts.line_chart(frame, [Series("a", BLUE, [(0, 0.0), (10, 1.0)])])
    dots = re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', picture)
    width, height = charts.WIDTH - charts.LEFT - charts.RIGHT, charts.HEIGHT - charts.TOP - charts.BOTTOM
    assert dots == [("0", str(height)), (str(width), "0")]


def test_log_axis_spaces_equal_ratios_equally():
    frame = Frame("t", "d", "x", "y", log_x=True, x_ticks=[10, 100, 1000])
    picture = charts.line_chart(frame, [Series("a", BLUE, [(10, 1.0), (100, 2.0), (1000, 3.0)])])
    xs = [float(x) for x in re.findall(r'<circle class="dot" cx="([\d.]+)"', picture)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)


def test_thin_keeps_the_mean_and_bounds_the_number():
    points = [(float(x), float(x * x)) for x in range(1000)]
    kept = charts.thin(points, 200)
    assert len(kept) == 200
    assert sum(y for _, y in kept) / 200 == pytest.approx(sum(y for _, y in points) / 1000)
    assert charts.thin([], 200) == [] and charts.thin(points[:3], 200) == points[:3]


def test_confusion_shades_by_row_and_writes_counts():
    picture = charts.confusion("t", ["a", "b"], [[30, 10], [0, 0]])
    opacities = [float(found) for found in re.findall(r'fill-opacity="([\d.]+)"', picture)]
    assert opacities == [pytest.approx(0.04 + 0.96 * share, abs=0.006) for share in (0.75, 0.25, 0, 0)]
    assert ">75%<" in picture and ">30<" in picture and "a, taken for b: 10 of 40" in picture


def test_log_ticks_are_powers_of_ten_or_where_those_are_few_their_doubles_and_fivefolds_too():
    assert charts.log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert charts.log_ticks(0.191, 5.66) == [0.2, 0.5, 1, 2, 5]
    assert charts.log_ticks(1, 1) == [1]
    assert charts.log_ticks(3, 4) == []


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_confusion_of_any_size_with_hostile_names(count):
    names = [f"<b>{'very long name ' * 3}{place}" for place in range(count)]
    picture = charts.confusion("t & u", names, [[1] * count for _ in range(count)])
    etree.fromstring(picture)
    assert "<b>" not in picture


def test_every_chart_reads_aloud():
    bins = [
        {"confidence": 0.8, "accuracy": 0.7, "count": 9},
        {"confidence": 0.9, "accuracy": 0.9, "count": 0},
    ]
    pictures = [
        charts.line_chart(FRAME, [Series("a", BLUE, [(1, 1.0)])]),
        charts.reliability("Reliability", "ECE 10%", [(BLUE, bins)]),
        charts.histogram("Lengths", "words", "words", [("0", 3), ("10", 0)]),
        charts.confusion("Confusion", ["a"], [[1]]),
    ]
    for picture in pictures:
        root = etree.fromstring(picture)
        assert root.get("role") == "img" and root.get("aria-label")
        assert root.find("title").text and root.find("desc") is not None
        assert root.get("viewBox") and root.get("width") is None


def test_a_mean_left_of_the_scale_is_an_arrow():
    assert "<circle" not in charts.whisker(0.1, (0.0, 0.2), (0.5, 1.0), BLUE)
    assert "<circle" in charts.whisker(0.7, (0.6, 0.8), (0.5, 1.0), BLUE)
