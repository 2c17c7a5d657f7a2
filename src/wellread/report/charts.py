"""Charts as small inline SVG pictures: colours come from the page's style sheet, so that they follow its
light and dark mode; shapes and dashes tell lines apart without colour; the same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 42  # margins of a line chart, in viewBox units
WIDTH, HEIGHT = 380, 260
MARKERS = ("circle", "square", "triangle", "diamond")
DASHES = ("", "7 3", "2 3", "9 3 2 3")

Point = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """How a series looks: a class of the style sheet that sets its colour, a marker, a dash pattern."""

    colour: str
    marker: str = "circle"
    dash: str = ""


@dataclass(frozen=True)
class Series:
    """A line: points in data units, an interval band as (x, low, high), whether points are marked."""

    name: str
    style: Style
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    markers: bool = True
    faint: bool = False


@dataclass(frozen=True)
class Frame:
    """The frame of a line chart: words, scales, and where the ticks stand (None: at round numbers)."""

    title: str
    description: str
    x_label: str
    y_label: str
    log_x: bool = False
    x_ticks: Sequence[float] | None = None
    y_range: tuple[float, float] | None = None
    width: int = WIDTH


def svg(width: float, height: float, title: str, description: str, body: str, cls: str = "chart") -> Markup:
    """An SVG element that scales with its box and reads well aloud."""
    label = escape(f"{title}. {description}", quote=True)
    return Markup(
        f'<svg class="{cls}" viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label="{label}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{body}</svg>"
    )


def line_chart(frame: Frame, series: Sequence[Series]) -> Markup:
    """Lines with markers and interval bands; whatever leaves the y range is cut at the frame's edge."""
    inner_width, inner_height = frame.width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    ys += [edge for one in series for _, low, high in one.band for edge in (low, high)]
    y_low, y_high = frame.y_range or _pad(min(ys), max(ys))
    x_low, x_high = (min(xs), max(xs)) if frame.log_x else (min(0.0, min(xs)), max(xs))
    if x_high == x_low:
        x_low, x_high = (x_low / 2, x_high * 2) if frame.log_x else (x_low, x_low + 1)

    def place_x(x: float) -> float:
        if frame.log_x:
            return inner_width * math.log(x / x_low) / math.log(x_high / x_low)
        return inner_width * (x - x_low) / (x_high - x_low)

    def place_y(y: float) -> float:
        return inner_height * (y_high - y) / (y_high - y_low)

    x_ticks = frame.x_ticks if frame.x_ticks is not None else ticks(x_low, x_high, 5)
    parts = [grid(ticks(y_low, y_high, 5), place_y, frame.width), x_axis(x_ticks, place_x, frame.width)]
    # Markers at the edges stay whole, lines beyond the range do not: the inner picture clips 6 units out.
    parts.append(
        f'<svg x="{LEFT - 6}" y="{TOP - 6}" width="{inner_width + 12}" height="{inner_height + 12}" '
        f'viewBox="-6 -6 {inner_width + 12} {inner_height + 12}">'
    )
    for one in series:
        parts.append(_draw(one, place_x, place_y))
    parts.append("</svg>")
    parts.append(
        f'<text class="axis" x="{LEFT + inner_width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(frame.x_label)}</text>"
        f'<text class="axis" transform="translate(11 {TOP + inner_height / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(frame.y_label)}</text>'
    )
    return svg(frame.width, HEIGHT, frame.title, frame.description, "".join(parts))


def swatch(style: Style) -> Markup:
    """The line and marker of a series, for a legend."""
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return Markup(
        f'<svg class="swatch {style.colour}" viewBox="0 0 28 12" aria-hidden="true">'
        f'<path class="line" d="M1 6H27"{dash}/>{marker(style.marker, 14, 6)}</svg>'
    )


def confusion(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A heat map of true labels (rows) against predicted ones, shaded by the share of the row."""
    size = len(labels)
    cell = 56 if size <= 6 else 40 if size <= 12 else 32
    shown = [name if len(name) <= 24 else name[:23] + "…" for name in labels]
    longest = max(_text_width(name) for name in shown)
    slanted = longest > cell
    left, top = longest + 14, 0.62 * longest + 18 if slanted else 24
    width = left + size * cell + (0.74 * longest - cell / 2 + 12 if slanted else 4)
    parts = []
    for place, name in enumerate(shown):
        x, y = left + (place + 0.5) * cell, top + (place + 0.5) * cell
        turn = f'transform="translate({_n(x - 2)} {_n(top - 7)}) rotate(-40)"' if slanted else ""
        where = turn or f'x="{_n(x)}" y="{_n(top - 8)}" text-anchor="middle"'
        parts.append(
            f'<text class="tick" {where}>{escape(name)}</text>'
            f'<text class="tick" x="{_n(left - 8)}" y="{_n(y + 4)}" text-anchor="end">{escape(name)}</text>'
        )
        total = sum(counts[place])
        for column in range(size):
            count = counts[place][column]
            hint = f"{labels[place]}, taken for {labels[column]}: {count:,} of {total:,}"
            share = count / total if total else 0.0
            parts.append(_cell(left + column * cell, top + place * cell, cell, share, count, hint))
    description = f"{size} classes. Rows: true labels; columns: predicted; shaded by the share of the row."
    return svg(width, top + size * cell + 2, title, description, "".join(parts))


def reliability(title: str, description: str, curves: Sequence[tuple[Style, Sequence[dict]]]) -> Markup:
    """Accuracy against confidence; a dot's area grows with the share of the examples in its bin."""
    size, left, top, bottom = 220, 46, 12, 42
    width, height = size + left + 14, size + top + bottom
    parts = [
        grid([i / 5 for i in range(6)], lambda y: size * (1 - y), width, percent=True),
        f'<path class="ideal" d="M{left} {top + size}L{left + size} {top}"/>',
    ]
    for i in range(6):
        x = left + size * i / 5
        parts.append(
            f'<text class="tick" x="{_n(x)}" y="{top + size + 15}" text-anchor="middle">{20 * i}</text>'
        )
    for style, bins in reversed(curves):  # the first one on top
        filled = [one for one in bins if one["count"]]
        total = sum(one["count"] for one in filled) or 1
        dots = [(left + size * b["confidence"], top + size * (1 - b["accuracy"]), b["count"]) for b in filled]
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y, _ in dots)
        dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
        parts.append(f'<g class="{style.colour}"><path class="line" d="M{path}"{dash}/>')
        for x, y, count in dots:
            parts.append(
                f'<circle class="dot" cx="{_n(x)}" cy="{_n(y)}" r="{2 + 7 * math.sqrt(count / total):.1f}"/>'
            )
        parts.append("</g>")
    parts.append(
        f'<text class="axis" x="{left + size / 2:.0f}" y="{height - 5}" text-anchor="middle">'
        f'confidence (%)</text><text class="axis" transform="translate(11 {top + size / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">accuracy (%)</text>'
    )
    return svg(width, height, title, description, "".join(parts))


def histogram(title: str, description: str, x_label: str, bars: Sequence[tuple[str, int]]) -> Markup:
    """Counts by class of a quantity; as many of the names are written as there is room for."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    highest = max((count for _, count in bars), default=1) or 1
    step = inner_width / max(len(bars), 1)
    every = math.ceil((8 + 6.6 * max((len(name) for name, _ in bars), default=1)) / step)
    parts = [grid(ticks(0, highest, 4), lambda y: inner_height * (1 - y / highest))]
    for i, (name, count) in enumerate(bars):
        tall = inner_height * count / highest
        parts.append(
            f'<rect class="bar" x="{_n(LEFT + i * step + step * 0.06)}" y="{_n(TOP + inner_height - tall)}" '
            f'width="{_n(step * 0.88)}" height="{_n(tall)}"><title>{escape(name)}: {count:,}</title></rect>'
        )
        if i % every == 0:
            parts.append(
                f'<text class="tick" x="{_n(LEFT + (i + 0.5) * step)}" y="{HEIGHT - BOTTOM + 15}" '
                f'text-anchor="middle">{escape(name)}</text>'
            )
    parts.append(
        f'<text class="axis" x="{LEFT + inner_width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    return svg(WIDTH, HEIGHT, title, description, "".join(parts))


def meter(share: float, cls: str = "s0") -> Markup:
    """A bar inside a table cell; the number stands beside it, so screen readers pass over the picture."""
    wide = 100 * min(max(share, 0.0), 1.0)
    return Markup(
        f'<svg class="meter {cls}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="10"/>'
        f'<rect class="bar" width="{wide:.1f}" height="10"/></svg>'
    )


def whisker(mean: float, bounds: Sequence[float] | None, scale: tuple[float, float], style: Style) -> Markup:
    """A mean and its interval on a scale shared by the rows of a table; an arrow for a mean left of it."""
    low, high = scale
    width = 150

    def place(value: float) -> float:
        return 6 + (width - 12) * (value - low) / ((high - low) or 1)

    body = ""
    if mean < low:
        body, bounds = '<path class="line" d="M12 3L4 8L12 13"/>', None
    if bounds:
        left, right = place(bounds[0]), place(bounds[1])
        body = f'<path class="line" d="M{left:.1f} 8H{right:.1f}M{left:.1f} 4V12M{right:.1f} 4V12"/>'
    return Markup(
        f'<svg class="whisker {style.colour}" viewBox="0 0 {width} 16" aria-hidden="true">'
        f"{body}{marker(style.marker, place(mean), 8) if mean >= low else ''}</svg>"
    )


def strip(shares: Sequence[float], title: str) -> Markup:
    """One small bar a layer, its height the share."""
    bars = "".join(
        f'<rect class="bar" x="{10 * i + 1}" y="{_n(24 - 22 * share)}" width="8" height="{_n(22 * share)}"/>'
        for i, share in enumerate(shares)
    )
    width = 10 * len(shares)
    frame = f'<path class="grid" d="M0 24H{width}"/>'
    return svg(width, 25, title, f"{len(shares)} layers", frame + bars, "strip").replace(
        "<svg ", Markup(f'<svg style="width:{width * 1.4:.0f}px" '), 1
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], roughly ``about`` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], both above 0; with their doubles and fivefolds where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1,), (1, 2, 5)):
        marks = (float(f"{factor}e{power}") for power in powers for factor in factors)
        found = [mark for mark in marks if low <= mark <= high]
        if len(found) >= 3:
            break
    return found


def thin(points: Sequence[Point], most: int = 200) -> list[Point]:
    """At most about ``most`` points: means over runs of neighbours."""
    width = -(-len(points) // most)
    runs = [points[i : i + width] for i in range(0, len(points), width)] if points else []
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def _pad(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - room, high + room


def _text_width(text: str) -> float:
    """Roughly how wide a text of the size of tick labels is; capitals are wider."""
    return sum(8.2 if letter.isupper() else 6.4 for letter in text)


def _n(number: float) -> str:
    """A coordinate with one digit after the point, without a superfluous zero."""
    return f"{number:.1f}".removesuffix(".0")


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def grid(
    values: Sequence[float], place_y: Callable[[float], float], width: float = WIDTH, percent: bool = False
) -> str:
    """Horizontal lines with their numbers on the left."""
    parts = []
    for value in values:
        y = TOP + place_y(value)
        text = f"{100 * value:.0f}" if percent else _tick_text(value)
        parts.append(
            f'<path class="grid" d="M{LEFT} {_n(y)}H{_n(width - RIGHT)}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{_n(y + 4)}" text-anchor="end">{text}</text>'
        )
    return "".join(parts)


def x_axis(values: Sequence[float], place_x: Callable[[float], float], width: float) -> str:
    """Marks and numbers below; numbers that would touch their left neighbour are left out."""
    bottom = HEIGHT - BOTTOM
    parts = [f'<path class="rule" d="M{LEFT} {bottom}H{_n(width - RIGHT)}"/>']
    free = 0.0
    for value in values:
        x, text = LEFT + place_x(value), _tick_text(value)
        parts.append(f'<path class="rule" d="M{_n(x)} {bottom}v4"/>')
        half = 3.6 * len(text)
        if x - half >= free:
            end = min(x, width - half)
            parts.append(
                f'<text class="tick" x="{_n(end)}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
            )
            free = x + half + 4
    return "".join(parts)


def _draw(one: Series, place_x: Callable[[float], float], place_y: Callable[[float], float]) -> str:
    parts = [f'<g class="{one.style.colour}">']
    if one.band:
        upper = [f"{_n(place_x(x))} {_n(place_y(high))}" for x, _, high in one.band]
        lower = [f"{_n(place_x(x))} {_n(place_y(low))}" for x, low, _ in reversed(one.band)]
        parts.append(f'<path class="band" d="M{"L".join(upper + lower)}Z"/>')
    path = "L".join(f"{_n(place_x(x))} {_n(place_y(y))}" for x, y in one.points)
    dash = f' stroke-dasharray="{one.style.dash}"' if one.style.dash else ""
    parts.append(f'<path class="{"line faint" if one.faint else "line"}" d="M{path}"{dash}/>')
    if one.markers:
        parts += [marker(one.style.marker, place_x(x), place_y(y)) for x, y in one.points]
    parts.append("</g>")
    return "".join(parts)


def marker(kind: str, x: float, y: float) -> str:
    """A point."""
    if kind == "square":
        return f'<rect class="dot" x="{_n(x - 3.2)}" y="{_n(y - 3.2)}" width="6.4" height="6.4"/>'
    if kind == "triangle":
        return f'<path class="dot" d="M{_n(x)} {_n(y - 4.4)}l4.2 7.4h-8.4z"/>'
    if kind == "diamond":
        return f'<path class="dot" d="M{_n(x)} {_n(y - 4.6)}l4.6 4.6l-4.6 4.6l-4.6-4.6z"/>'
    return f'<circle class="dot" cx="{_n(x)}" cy="{_n(y)}" r="3.6"/>'


def _cell(x: float, y: float, side: float, share: float, count: int, hint: str) -> str:
    strong = " strong" if share > 0.55 else ""
    middle = x + side / 2
    texts = ""
    if count and side >= 56:
        texts = (
            f'<text class="share{strong}" x="{_n(middle)}" y="{_n(y + side / 2)}" text-anchor="middle">'
            f"{100 * share:.0f}%</text>"
            f'<text class="count{strong}" x="{_n(middle)}" y="{_n(y + side / 2 + 14)}" text-anchor="middle">'
            f"{count:,}</text>"
        )
    elif count:
        texts = (
            f'<text class="count{strong}" x="{_n(middle)}" y="{_n(y + side / 2 + 4)}" text-anchor="middle">'
            f"{count:,}</text>"
        )
    return (
        f'<g><title>{escape(hint)}</title><rect class="cell" x="{_n(x)}" y="{_n(y)}" '
        f'width="{side - 2}" height="{side - 2}" fill-opacity="{0.04 + 0.96 * share:.2f}"/>{texts}</g>'
    )
