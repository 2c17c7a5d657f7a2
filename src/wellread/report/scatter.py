"""Quality against a cost, one numbered dot a thing, with intervals and a line that must not be crossed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from wellread.report import charts
from wellread.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Style

WIDTH = 560
NEAR = 12  # dots so close share their label


@dataclass(frozen=True)
class Dot:
    """One thing: its number in the table, name, cost, score, interval of the score, look."""

    number: str
    name: str
    cost: float
    score: float
    interval: tuple[float, ...]
    look: Style


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
    spots: dict[tuple[int, int], list[tuple[float, float, str]]] = {}
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
        spots.setdefault((round(across / NEAR), round(down / NEAR)), []).append((across, down, one.number))
    for together in spots.values():
        across, down, _ = together[0]
        told = ", ".join(number for _, _, number in together)
        parts.append(f'<text class="tick" x="{across + 6:.1f}" y="{down - 5:.1f}">{told}</text>')
    parts.append(
        f'<text class="axis" x="{LEFT + inner_width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="axis" transform="translate(11 {TOP + inner_height / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    told = "; ".join(f"{one.number} {one.name}: {one.score:.2f} at {one.cost:.3g}" for one in dots)
    return charts.svg(WIDTH, HEIGHT, title, told, "".join(parts))
