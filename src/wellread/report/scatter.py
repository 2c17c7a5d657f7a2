"""Quality against a cost, one numbered dot a thing, with intervals and a line that must not be crossed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from markupsafe import Markup

from wellread.report import charts
from wellread.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Style

WIDTH = 560
NEAR = 12  # pixels; dots so close share their label
GLYPH, LINE = 6.5, 11  # about the size of a label's characters, in pixels


@dataclass(frozen=True)
class Dot:
    """One thing: its number in the table, name, cost, score, interval of the score, look."""

    number: str
    name: str
    cost: float
    score: float
    interval: tuple[float, ...]
    look: Style


@dataclass(frozen=True)
class Label:
    """Numbers of dots, and where in pixels they are printed: left end and base line."""

    x: float
    y: float
    numbers: tuple[str, ...]

    @property
    def told(self) -> str:
        """What is printed."""
        return ", ".join(self.numbers)

    def hits(self, other: Label) -> bool:
        """Whether the two would be printed over each other."""
        first, second = sorted((self, other), key=lambda one: one.x)
        return second.x < first.x + GLYPH * len(first.told) and abs(self.y - other.y) < LINE


def labels(spots: Sequence[tuple[float, float, str]]) -> list[Label]:
    """A label for each group of near dots, to its right; where that is printed on, a line or more above.

    Args:
        spots: x and y in pixels and the number of each dot.
    """
    groups: list[list[tuple[float, float, str]]] = []
    for spot in sorted(spots):
        near = [group for group in groups if any(_near(spot, one) for one in group)]
        groups = [group for group in groups if group not in near] + [[*sum(near, []), spot]]
    found: list[Label] = []
    for group in sorted(groups):
        x, y, _ = max(group)
        label = Label(x + 6, y - 5, tuple(sorted((number for _, _, number in group), key=int)))
        while any(label.hits(one) for one in found):
            label = replace(label, y=label.y - LINE)
        found.append(label)
    return found


def _near(one: tuple[float, float, str], other: tuple[float, float, str]) -> bool:
    return abs(one[0] - other[0]) < NEAR and abs(one[1] - other[1]) < NEAR


def chart(title: str, x_label: str, y_label: str, dots: Sequence[Dot], floor: float) -> Markup:
    """A picture with the cost on a logarithmic axis.

    Args:
        title: of the picture.
        x_label: of the cost.
        y_label: of the score.
        dots: at least one; costs above 0.
        floor: the score below which nothing passes.
    """
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    edges = [edge for one in dots for edge in (one.score, *one.interval)]
    low, high = min(*edges, floor), max(edges)
    room = 0.06 * (high - low) or 1.0
    low, high = low - room, high + room
    left, right = (f(one.cost for one in dots) for f in (min, max))
    left, right = left / 1.25, right * 1.25

    def x(cost: float) -> float:
        return inner_width * math.log(cost / left) / math.log(right / left)

    def y(score: float) -> float:
        return inner_height * (high - score) / (high - low)

    marks = [m * 10.0**power for power in range(-4, 7) for m in (1, 1.5, 2, 3, 5, 7)]
    parts = [
        charts.grid(charts.ticks(low, high, 5), y, WIDTH),
        charts.x_axis([mark for mark in marks if left <= mark <= right], x, WIDTH),
        f'<path class="gate" d="M{LEFT} {TOP + y(floor):.1f}H{WIDTH - RIGHT}"/>',
    ]
    spots: list[tuple[float, float, str]] = []
    for one in dots:
        across, down = LEFT + x(one.cost), TOP + y(one.score)
        top, bottom = (TOP + y(edge) for edge in reversed(one.interval))
        place = f"{across:.1f}"
        parts.append(
            f'<g class="{one.look.colour}"><title>{escape(one.name)}: {one.score:.2f} at '
            f"{one.cost:.3g}</title>"
            f'<path class="line faint" d="M{place} {top:.1f}V{bottom:.1f}"/>'
            f"{charts.marker(one.look.marker, across, down)}</g>"
        )
        spots.append((across, down, one.number))
    for label in labels(spots):
        parts.append(f'<text class="tick" x="{label.x:.1f}" y="{label.y:.1f}">{label.told}</text>')
    parts.append(
        f'<text class="axis" x="{LEFT + inner_width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="axis" transform="translate(11 {TOP + inner_height / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    told = "; ".join(f"{one.number} {one.name}: {one.score:.2f} at {one.cost:.3g}" for one in dots)
    return charts.svg(WIDTH, HEIGHT, title, told, "".join(parts))
